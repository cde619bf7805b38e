"""The experiment files of the suites of texts, end to end on their replicas."""

from pathlib import Path

import pytest
import yaml

from mergegrid.experiment import load_experiment, parse_experiment
from mergegrid.grid import expand
from storage.ledger import Ledger
from storage.results import Results
from storage.root import Root
from tests.replicas import cross_lingual, p3
from tests.replicas.reduced import reduced
from tests.replicas.t5 import FIRST

pytestmark = pytest.mark.slow

EXPERIMENTS = Path(__file__).parents[2] / "configs" / "experiments"
CELLS = {"cross_lingual": 869, "nlp7": 1714, "qa8": 101, "p3_11": 216}


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    home = tmp_path_factory.mktemp("replicas")
    later = p3.make(home / "later")
    return {
        "cross_lingual": cross_lingual.make(home / "cross_lingual"),
        "nlp7": p3.make(home / "first", form=FIRST),
        "qa8": {key: value for key, value in later.items() if key != "few"},
        "p3_11": later,
    }


@pytest.mark.parametrize("name", CELLS)
def test_a_file_holds_the_papers_grid(name):
    cells = expand(load_experiment(EXPERIMENTS / f"{name}.yaml"))
    assert len(cells) == CELLS[name]


@pytest.mark.parametrize("name", CELLS)
def test_a_file_runs_end_to_end_on_its_replica(name, replicas, run, tmp_path):
    document = reduced(EXPERIMENTS / f"{name}.yaml", replicas[name])
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    run(path, "--root", tmp_path / "root")
    place = Root.open(str(tmp_path / "root"))
    results = Results(place, Ledger(place))
    results.refresh()
    experiment = parse_experiment(document, source=name)
    _, scored = results.query("SELECT count(DISTINCT cell) FROM current_cells")
    references = 2 + sum(task.held_in for task in experiment.open_suite().tasks())
    assert scored == [(len(expand(experiment)) + references,)]
    _, strange = results.query("SELECT * FROM scores WHERE NOT value BETWEEN 0 AND 1")
    assert strange == []
    _, beside = results.query(
        f"SELECT DISTINCT paper FROM against_paper WHERE suite = '{name}'"
    )
    assert beside
