"""Profiles of task vectors through the whole pipeline, on the smallest experiment."""

import shutil

import pytest

from flows.experiment import record_experiment
from flows.plan import make_plan
from mergegrid.experiment import load_experiment
from tasks.workspace import open_workspace

pytestmark = pytest.mark.slow

SECTIONS = {
    "grid": [{"methods": ["average"]}],
    "profiles": [
        {"densities": [0.2, 0.5], "mask_thresholds": [0.4]},
        {"subsets": {"nested": {"sizes": [2], "samples": 2}}},
    ],
}
QUESTIONS = (
    "SELECT * EXCLUDE (experts) FROM sign_conflicts",
    "SELECT * EXCLUDE (experts) FROM merged_magnitudes",
    "SELECT * EXCLUDE (experts) FROM mask_agreement",
    "FROM layer_spread",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Name the root that the first test fills, for all others to read."""
    return tmp_path_factory.mktemp("profiles") / "root"


@pytest.fixture
def root(finished, run, file):
    """Give a root at which the experiment has been run."""
    if not finished.exists():
        run(file(**SECTIONS), "--root", finished)
    return finished


def rows(ask, root, question):
    return ask("sql", question, "--format", "csv", "--root", root).splitlines()[1:]


def test_every_subset_is_profiled_at_every_density(ask, root):
    question = "SELECT size, sample, density FROM sign_conflicts ORDER BY ALL"
    assert rows(ask, root, question) == [
        *(f"2,{sample},{density}" for sample in (1, 2) for density in (0.2, 1.0)),
        *(f"3,0,{density}" for density in (0.2, 0.5, 1.0)),
    ]
    question = "SELECT merge_by, density, sum(share) FROM mask_agreement GROUP BY ALL"
    shares = sorted(rows(ask, root, question))
    assert [row.rsplit(",", 1)[0] for row in shares] == [
        "task_arithmetic,1.0",
        "ties,0.2",
        "ties,0.5",
    ]
    assert all(abs(float(row.rsplit(",", 1)[1]) - 1) < 1e-9 for row in shares)


def test_every_layer_of_every_expert_is_there_in_the_models_order(ask, root):
    question = """
        SELECT count(*), count(DISTINCT parameter), count(DISTINCT task),
            min_by(parameter, place), max_by(parameter, place)
        FROM layer_spread
    """
    (row,) = rows(ask, root, question)
    count, parameters, tasks, first, last = row.split(",")
    assert int(count) == int(parameters) * 3
    assert tasks == "3"
    assert first == "visual.class_embedding"
    assert last == "visual.ln_post.bias"


def test_profiles_have_their_costs_and_are_in_the_report(ask, root):
    question = "SELECT stage, count(*), min(flops) > 0 FROM costs GROUP BY stage"
    found = rows(ask, root, question)
    assert "distribution,3,True" in found
    assert "profile,3,True" in found
    report = (root / "reports" / "tiny.html").read_text(encoding="utf-8")
    for section in ("conflicts", "magnitudes", "agreement", "task_vectors"):
        assert f'<section id="{section}">' in report


def test_what_is_profiled_already_is_not_profiled_again(ask, file, root):
    assert ", 0 to run;" in ask("plan", file(**SECTIONS), "--root", root)


def test_profiles_whose_recording_was_cut_off_are_recorded_by_the_next_run(
    ask, file, root, tmp_path
):
    lost = shutil.ignore_patterns("records", "segments", "results.duckdb")
    copy = shutil.copytree(root, tmp_path / "root", ignore=lost)
    experiment = load_experiment(file(**SECTIONS))
    workspace = open_workspace(experiment.model_dump_json(), str(copy))
    record_experiment(make_plan(workspace))
    for question in QUESTIONS:
        assert rows(ask, copy, question) == rows(ask, root, question)
