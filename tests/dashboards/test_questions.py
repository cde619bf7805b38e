import pytest

from dashboards.questions import QUESTIONS, ask

VALUES = {
    "experiment": "small",
    "subset": 1,
    "cell": "average-0-{}",
    "paper": "realistic",
    "paper_suite": "domainnet",
    "paper_model": "ViT-B-32",
    "one": "ties",
    "other": "average",
}
STUDIES = {
    "scale_sweeps",
    "selections",
    "consensus_thresholds",
    "useless_weights",
    "incremental",
    "memory_peaks",
}
"""Questions about what the small experiment has not."""

VECTORS = {
    "task_vectors",
    "conflicts",
    "magnitudes",
    "agreement",
    "mask_shares",
    "redundancy",
}
"""Questions about task vectors, of which it has none."""

LEARNED = {
    "coefficients",
    "coefficient_spread",
    "learning",
    "learning_costs",
    "budget_curve",
    "transductive",
}
"""Questions about learning, of which it does none."""

STORAGE = {"storage", "storage_by_size"}
"""Questions about storage, of which it has no rows."""


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_shown_can_be_asked_by_hand_and_gives_the_same(
    small, studied, profiled, learning_database, question
):
    database, values = small, VALUES
    if question in STUDIES:
        database, values = studied, VALUES | {"experiment": "studies"}
    if question in LEARNED:
        database, values = learning_database, VALUES | {"experiment": "learned"}
    if question in VECTORS | STORAGE:
        database, values = profiled, VALUES | {"experiment": "profiled"}
    answered = ask(database, question, values)
    assert answered.tuples
    assert (answered.columns, answered.tuples) == database.query(answered.sql)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_says_what_it_asks(question):
    first, _, rest = QUESTIONS[question].partition("\n")
    assert first.startswith("-- ")
    assert "?" in QUESTIONS[question].partition("\nSELECT")[0].partition("\nWITH")[0]
    assert rest


def test_only_the_methods_that_were_chosen_are_answered_about(small):
    answered = ask(small, "leaderboard", VALUES, methods=["ties", "average"])
    assert {row["method"] for row in answered.rows} == {"ties", "average"}
    assert small.query(answered.sql)[1] == answered.tuples


@pytest.mark.parametrize("name", ["'; DROP TABLE cells; --", "$subset", "' OR '1'='1"])
def test_values_stay_values(small, name):
    answered = ask(small, "subsets", {"experiment": name, "subset": 1})
    assert answered.tuples == []
    assert name.replace("'", "''") in answered.sql


def test_a_value_that_is_missing_is_a_bug(small):
    with pytest.raises(KeyError, match="subset"):
        ask(small, "leaderboard", {"experiment": "small"})


def test_what_was_recorded_last_is_the_first_experiment(build, small_rows):
    later = {
        **next(row for row in small_rows if row["table"] == "experiments"),
        "experiment": "other",
        "suite": "vision",
        "recorded_at": "2026-02-01",
    }
    answered = ask(build([later, *small_rows]), "experiments", {})
    assert [(r["experiment"], r["suite"]) for r in answered.rows] == [
        ("other", "vision"),
        ("small", "glyphs"),
    ]
    assert [(r["cells"], r["scored"]) for r in answered.rows] == [(0, 0), (13, 13)]


def test_a_cell_that_has_no_scores_is_still_a_cell(build, stages_of_a_run):
    database = build(stages_of_a_run["one merge"])
    rows = ask(database, "cells", VALUES).rows
    assert len(rows) == 13
    assert sum(row["held_in"] is not None for row in rows) == 1
