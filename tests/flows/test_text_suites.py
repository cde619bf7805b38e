"""The papers' experiments on texts, planned in full and run small on replicas."""

import pytest

from flows.expected import expected
from flows.plan import make_plan
from mergegrid.experiment_steps import build_steps
from mergegrid.grid import expand
from storage.ledger import Ledger
from storage.results import Results
from storage.root import Root
from tasks.record import experiment_row
from tasks.workspace import Workspace
from tests.flows.test_papers import paper, run, scores, small
from tests.replicas import cross_lingual, p3
from tests.replicas.t5 import FIRST

NAMES = ("cross_lingual", "nlp7", "qa8", "p3_11")


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    home = tmp_path_factory.mktemp("replicas")
    later = p3.make(home / "later")
    return {
        "cross_lingual": cross_lingual.make(home / "cross_lingual"),
        "nlp7": p3.make(home / "first", form=FIRST),
        "qa8": later,
        "p3_11": later,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_papers_experiment_runs_to_its_end_on_a_replica(name, replicas, tmp_path):
    experiment = small(name, replicas[name])
    methods = {cell.method for cell in expand(experiment)}
    assert methods == {cell.method for cell in expand(paper(name))}
    workspace = run(experiment, tmp_path / "root")
    assert make_plan(workspace).is_done
    found = scores(workspace)
    assert {row["task"] for row in found} == {t.name for t in workspace.steps.tasks}
    assert all(0 <= row["value"] <= 1 for row in found)
    assert compared(workspace) == PAPERS[name]


PAPERS = {
    "cross_lingual": {"realistic"},
    "nlp7": {"ties", "re_ties", "tall"},
    "qa8": {"tall"},
    "p3_11": {"ties", "re_ties", "supermerge"},
}


def compared(workspace):
    """Name the papers with numbers of this suite, and have them beside ours."""
    workspace.ledger.append("experiment", [experiment_row(workspace.steps)])
    results = Results(workspace.root, Ledger(workspace.root))
    results.refresh()
    suite = workspace.suite.name
    _, rows = results.query(
        f"SELECT paper, value, paper_value, differs FROM against_paper "
        f"WHERE suite = '{suite}'"
    )
    for _, value, paper_value, differs in rows:
        assert 0 <= value <= 100
        assert 0 < paper_value <= 100
        assert "suite: theirs" not in differs
    return {row[0] for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_a_papers_experiment_is_planned_with_nothing_downloaded(name, tmp_path):
    experiment = paper(name)
    workspace = Workspace(experiment, build_steps(experiment), Root(str(tmp_path)))
    will = expected(make_plan(workspace))
    assert {fetch.what for fetch in will.fetches} > {
        fetch.what for fetch in workspace.suite.fetches()
    }
    assert all(fetch.bytes > 0 for fetch in will.fetches)
    assert will.prepare_flops > will.merge_flops > 0
    assert not any(tmp_path.iterdir())
