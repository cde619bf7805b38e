"""The paired bootstrap in SQL, against the same resampling written in NumPy."""

import hashlib
from itertools import permutations

import numpy as np
import pytest

TASKS = [f"t/{number}" for number in range(7)]
ACCURACIES = {  # percent on each task
    "average": (60, 55, 71, 80, 42, 66, 50),
    "ties": (63, 52, 75, 84, 40, 70, 49),
    "fisher": (48, 61, 70, 77, 45, 60, 58),
    "dare": (60, 55, 71, 80, 42, 66, 50),  # as the average
}
REPLICATES = 400


def rows(database, sql):
    columns, found = database.query(sql)
    return [dict(zip(columns, row, strict=True)) for row in found]


def score(by_hand, cell, task, percent, split="test"):
    return {**by_hand.score(cell, task, percent, split), "role": "held_in"}


@pytest.fixture(scope="module")
def database(tmp_path_factory, by_hand):
    """Four methods, each scored on all tasks, and one that lacks a task."""
    found = {"0": [by_hand.experiment()]}
    for method, percents in (*ACCURACIES.items(), ("mats", ACCURACIES["ties"][:-1])):
        found[method] = [
            by_hand.cell(method, method, experts=TASKS),
            *(
                score(by_hand, method, task, percent)
                for task, percent in zip(TASKS, percents, strict=False)
            ),
        ]
    made = by_hand.results(tmp_path_factory.mktemp("pairs"), by_hand.Ledger(found))
    made.refresh()
    return made


def drawn_tasks(replicates, tasks):
    """The places that the SQL says it draws: MD5('r/i') modulo the number of tasks."""

    def place(replicate, draw):
        digest = hashlib.md5(f"{replicate}/{draw}".encode(), usedforsecurity=False)
        return int.from_bytes(digest.digest()[8:], "little") % tasks

    return np.array(
        [[place(r, i) for i in range(tasks)] for r in range(replicates)], dtype=np.int64
    )


def reference(one, other, replicates):
    """Differences, their interval and how often they are positive, in float64."""
    a, b = (np.array(ACCURACIES[name], dtype=np.float64) / 100 for name in (one, other))
    drawn = drawn_tasks(replicates, len(TASKS))
    differences = np.round(a[drawn].mean(axis=1), 12) - np.round(
        b[drawn].mean(axis=1), 12
    )
    low, high = np.quantile(differences, (0.025, 0.975))
    ahead = (differences > 0).mean() + (differences == 0).mean() / 2
    return differences, (a - b).mean(), low, high, ahead


@pytest.mark.parametrize("pair", [*permutations(ACCURACIES, 2)])
def test_the_bootstrap_is_that_of_numpy(database, pair):
    (found,) = rows(
        database,
        f"FROM bootstrap('small', 1, replicates := {REPLICATES}) "
        f"WHERE method = '{pair[0]}' AND other = '{pair[1]}'",
    )
    _, difference, low, high, ahead = reference(*pair, REPLICATES)
    assert found["difference"] == pytest.approx(difference, abs=1e-12)
    assert found["low"] == pytest.approx(low, abs=1e-11)
    assert found["high"] == pytest.approx(high, abs=1e-11)
    assert found["ahead"] == pytest.approx(ahead, abs=1e-12)
    assert (found["role"], found["tasks"]) == ("held_in", len(TASKS))


def test_every_replicate_draws_the_same_tasks_for_all_methods(database):
    found = rows(
        database,
        f"FROM bootstrap_replicates('small', 1, replicates := {REPLICATES}) "
        "ORDER BY method, replicate",
    )
    drawn = drawn_tasks(REPLICATES, len(TASKS))
    for method, percents in ACCURACIES.items():
        means = [row["accuracy"] for row in found if row["method"] == method]
        expected = (np.array(percents, dtype=np.float64) / 100)[drawn].mean(axis=1)
        assert means == pytest.approx(expected, abs=1e-12)


def test_there_are_two_thousand_replicates_and_more_begin_alike(database):
    asked = "FROM bootstrap_replicates('small', 1{}) ORDER BY method, replicate"
    usual = rows(database, asked.format(""))
    assert max(row["replicate"] for row in usual) == 1999
    few = rows(database, asked.format(", replicates := 10"))
    assert few == [row for row in usual if row["replicate"] < 10]


def test_a_pair_turned_round_is_the_same_pair(database):
    found = {
        (row["method"], row["other"]): row
        for row in rows(database, "FROM bootstrap('small', 1)")
    }
    for (one, other), row in found.items():
        turned = found[other, one]
        assert row["difference"] == pytest.approx(-turned["difference"])
        assert row["low"] == pytest.approx(-turned["high"])
        assert row["ahead"] + turned["ahead"] == pytest.approx(1)


def test_equal_methods_are_ahead_half_the_time(database):
    (found,) = rows(
        database,
        "FROM bootstrap('small', 1) WHERE method = 'dare' AND other = 'average'",
    )
    assert (found["difference"], found["low"], found["high"]) == (0, 0, 0)
    assert found["ahead"] == 0.5


def test_the_difference_is_that_of_the_paired_comparison(database):
    both = rows(
        database,
        "SELECT boot.difference AS ours, paired.difference AS theirs "
        "FROM bootstrap('small', 1) AS boot "
        "JOIN paired ON paired.experiment = 'small' AND paired.subset = 1 "
        "AND paired.method = boot.method AND paired.other = boot.other",
    )
    assert len(both) == 12
    for row in both:
        assert row["ours"] == pytest.approx(row["theirs"])


def test_what_was_not_scored_on_every_task_is_left_out(database):
    found = rows(database, "FROM bootstrap('small', 1)")
    assert {row["method"] for row in found} == set(ACCURACIES)
    assert rows(database, "SELECT 1 AS x FROM task_accuracies WHERE method = 'mats'")


def test_kinds_of_tasks_are_drawn_apart(small):
    found = rows(small, "FROM bootstrap('small', 1) WHERE method = 'regmean'")
    tasks = {(row["role"], row["tasks"]) for row in found}
    assert tasks == {("held_in", 2), ("generalization", 3)}


def test_an_experiment_that_is_not_there_has_no_pairs(small):
    assert rows(small, "FROM bootstrap('other', 1)") == []
    assert rows(small, "FROM bootstrap('small', 99)") == []
