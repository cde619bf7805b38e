"""Learned merges as steps: in the grid, charged for their data, resumed if killed."""

import os
import signal
import time

import duckdb
import pytest

pytestmark = pytest.mark.slow

GRID = [
    {
        "methods": [
            {"name": "ties", "options": {"scale": [0.5, 1.0]}},
            {
                "name": "ties",
                "options": {
                    "scale": 1.0,
                    "election": ["multitask", "few_shot", "few_shot_average"],
                },
            },
            {"name": "supermerge", "options": {"steps": 6, "examples": [2, 4]}},
            {"name": "hierarchical_supermerge", "options": {"steps": 3}},
            {"name": "adamerging", "options": {"steps": 3, "split": "test"}},
            {"name": "adamerging_pp", "options": {"steps": 3}},
        ],
    },
    {
        "methods": [{"name": "supermerge", "options": {"steps": 6}}],
        "subsets": {"nested": {"sizes": [2]}},
        "seeds": [0, 1],
    },
]
FEW_SHOT = {"steps": 3, "batch_size": 4, "learning_rate": 0.001, "examples": 2}


@pytest.fixture
def learned(file):
    """Write the smallest experiment with every kind of learning."""
    training = {
        "pretrain": {"steps": 8, "batch_size": 16, "learning_rate": 0.002},
        "expert": {"steps": 3, "batch_size": 8, "learning_rate": 0.001},
        "multitask": {"steps": 3, "batch_size": 8, "learning_rate": 0.001},
    }

    def write(**changed):
        return file(
            name="learned",
            grid=changed.pop("grid", GRID),
            training=training | changed.pop("training", {"few_shot": FEW_SHOT}),
            **changed,
        )

    return write


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Share one root."""
    return tmp_path_factory.mktemp("learned") / "root"


@pytest.fixture
def rows(root):
    """Ask the experiment's database."""

    def ask(question):
        with duckdb.connect(root / "results.duckdb", read_only=True) as connection:
            return connection.sql(question).fetchall()

    return ask


def test_learned_merges_stand_beside_the_others(run, learned, root):
    text = run(learned(), "--root", root)
    shown = {words[0] for words in map(str.split, text.splitlines()) if words}
    assert shown >= {
        "supermerge", "hierarchical_supermerge", "adamerging", "adamerging_pp",
        "few_shot", "few_shot_average", "learn",
    }  # fmt: skip
    assert not list((root / "checkpoints").glob("*"))


def test_every_parameter_of_every_expert_has_its_coefficient(rows):
    counted = rows(
        "SELECT method, size, seed, count(*), count(DISTINCT parameter), "
        "count(DISTINCT task) FROM learned_coefficients GROUP BY ALL"
    )
    tensors = {found[4] for found in counted}
    assert len(tensors) == 1
    for _method, size, _seed, entries, parameters, tasks in counted:
        assert (entries, tasks) == (parameters * size, size)
    assert {(m, s, seed) for m, s, seed, *_ in counted} == {
        ("supermerge", 3, 0),
        ("hierarchical_supermerge", 3, 0),
        ("adamerging", 3, 0),
        ("adamerging_pp", 3, 0),
        ("supermerge", 2, 0),
        ("supermerge", 2, 1),
    }


def test_what_was_learned_from_is_charged(rows):
    found = dict(
        rows(
            "SELECT method, (labelled, unlabelled, transductive) FROM budgets "
            "WHERE size = 3 AND kind = 'merged'"
        )
    )
    # Eight examples of each of three tasks are all that there are.
    assert found == {
        "ties": (24, 0, False),  # its scale is chosen by them
        "supermerge": (24, 0, False),
        "hierarchical_supermerge": (24, 0, False),
        "adamerging": (0, 24, True),
        "adamerging_pp": (0, 24, False),
    }
    by_size = rows(
        "SELECT labelled FROM costs WHERE stage = 'learn' AND labelled > 0 ORDER BY 1"
    )
    assert [count for (count,) in by_size] == [6, 12, 16, 16, 24]
    few_shot = rows("SELECT labelled FROM costs WHERE stage = 'few_shot'")
    assert few_shot == [(6,), (6,)]


def test_a_second_run_learns_nothing_anew(run, learned, root, tables):
    found = tables(root)
    text = run(learned(), "--root", root)
    assert "0 to run" in text
    assert tables(root) == found


def test_where_task_vectors_are_held_changes_no_step(ask, learned, root):
    for where in ("offloaded", "streamed"):
        text = ask("plan", learned(task_vectors=where), "--root", root)
        assert "0 to run" in text


def test_signs_of_a_model_that_is_not_trained_are_refused(ask, learned, root):
    text = ask("plan", learned(training={}), "--root", root, status=2)
    assert "add training.few_shot" in text
    given = {"name": "ties", "options": {"election": "given"}}
    text = ask("plan", learned(grid=[{"methods": [given]}]), "--root", root, status=2)
    assert "takes signs from a file" in text


def test_learning_that_was_killed_goes_on_where_it_was(
    run, started, learned, tables, tmp_path
):
    steps = {"steps": 60, "evaluate_every": 2, "patience": 99}
    grid = [{"methods": [{"name": "supermerge", "options": steps}]}]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run(learned(grid=grid), "--root", undisturbed)
    process = started("run", learned(grid=grid), "--root", killed)
    deadline = time.monotonic() + 120
    while not list((killed / "checkpoints").glob("*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(killed.glob("artifacts/learn-*/manifest.json"))
    run(learned(grid=grid), "--root", killed)
    assert tables(killed) == tables(undisturbed)
    assert not list((killed / "checkpoints").glob("*"))
