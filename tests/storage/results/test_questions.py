"""What the views answer, about an experiment whose records are written by hand."""

import math
from pathlib import Path

import pytest

from storage.schema import RELATIONS, question


def one(database, sql):
    columns, (row,) = database.query(sql)
    return dict(zip(columns, row, strict=True))


def rows(database, sql):
    return database.query(sql)[1]


def test_leaderboard_is_what_one_gets_by_hand(small):
    row = one(small, "SELECT * FROM leaderboard WHERE method = 'regmean'")
    assert row["options"] == "off_diagonal 0.9"
    assert row["held_in"] == pytest.approx((0.81 + 0.64) / 2)
    assert row["held_in_se"] == pytest.approx(
        math.sqrt(0.81 * 0.19 / 100 + 0.64 * 0.36 / 100) / 2
    )
    assert row["generalization"] == pytest.approx((0.7 + 0.4 + 0.3) / 3)
    assert row["generalization_se"] == pytest.approx(
        math.sqrt((0.7 * 0.3 + 0.4 * 0.6 + 0.3 * 0.7) / 100) / 3
    )
    assert row["normalized"] == pytest.approx((0.81 / 0.9 + 0.64 / 0.8) / 2)
    assert row["merge_flops"] == 300
    assert row["statistics_flops"] == 1000
    # Its own 3 s; the Gram alone; experts and pretrained with all that used them.
    assert row["amortized_seconds"] == pytest.approx(3 + 2 + 6 / 6 + 4 / 6 + 60 / 8)
    assert row["unshared_seconds"] == pytest.approx(3 + 2 + 6 + 4 + 60)


def test_individual_experts_are_one_row_about_their_own_tasks(small):
    row = one(small, "SELECT * FROM leaderboard WHERE method = 'individual'")
    assert row["held_in"] == pytest.approx(0.85)
    assert row["held_in_se"] == pytest.approx(
        math.sqrt(0.9 * 0.1 / 100 + 0.8 * 0.2 / 100) / 2
    )
    assert row["generalization"] == pytest.approx((0.3 + 0.2) / 2)
    assert row["normalized"] == pytest.approx(1)
    assert row["average_rank"] is None


def test_a_model_for_each_task_is_listed_but_not_compared(tmp_path, by_hand):
    found = by_hand.records()
    found["tall"] = [
        by_hand.cell("tall", "tall_masks", kind="per_task"),
        *(
            by_hand.score("tall", t, c)
            for t, c in zip(by_hand.HELD_IN, (88, 79), strict=True)
        ),
        *(by_hand.score("tall", task, 75, "validation") for task in by_hand.HELD_IN),
        by_hand.cost("tall", "merge", 1.0, 64),
        *by_hand.lineage("tall", "xa", "xb", "base"),
    ]
    database = by_hand.results(tmp_path, by_hand.Ledger(found))
    database.refresh()
    row = one(database, "SELECT * FROM leaderboard WHERE kind = 'per_task'")
    assert (row["method"], row["models"]) == ("tall_masks", "per task")
    assert row["held_in"] == pytest.approx((0.88 + 0.79) / 2)
    assert row["generalization"] is None
    assert row["generalization_se"] is None
    assert row["average_rank"] is None
    # It is best on both tasks, and yet takes no rank from those that are one model.
    models = (
        "SELECT method, models, average_rank FROM leaderboard WHERE kind = 'merged'"
    )
    without = by_hand.results(tmp_path / "without", by_hand.Ledger(by_hand.records()))
    without.refresh()
    assert sorted(rows(database, models)) == sorted(rows(without, models))
    assert {one_or_each for _, one_or_each, _ in rows(database, models)} == {"one"}


def test_only_validation_chooses_options(small):
    row = one(small, "SELECT * FROM leaderboard WHERE method = 'task_arithmetic'")
    assert row["options"] == "scale 0.333"
    assert row["held_in"] == pytest.approx(0.55)
    assert row["recipes_tried"] == 3
    assert rows(small, "SELECT swept FROM chosen WHERE method = 'task_arithmetic'") == [
        ("scale 0.333",)
    ]


def test_charges_add_up_to_what_was_spent(small):
    (spent,) = rows(small, "SELECT sum(seconds) FROM costs")[0]
    (charged,) = rows(small, "SELECT sum(amortized_seconds) FROM amortized_costs")[0]
    assert charged == pytest.approx(spent)


def test_prerequisites_are_counted_once_and_shared(small):
    assert rows(small, "SELECT stage, steps, seconds, cells FROM prerequisites") == [
        ("pretrain", 1, 60, 5),
        ("train", 2, 10, 5),
        ("gram", 1, 2, 1),
    ]


def test_equal_methods_share_their_rank(small):
    # On b/1 average and task arithmetic both have 50, regmean 40.
    ranks = (
        "SELECT method, task_rank FROM task_ranks WHERE task = 'b/1' ORDER BY method"
    )
    assert rows(small, ranks) == [
        ("average", 1.5),
        ("regmean", 3),
        ("task_arithmetic", 1.5),
    ]


def test_sensitivity_follows_one_option(small):
    line = rows(
        small,
        "SELECT number, validation, is_chosen FROM sensitivity "
        "WHERE method = 'task_arithmetic' AND option = 'scale' ORDER BY number",
    )
    assert line == [(0.1, 0.5, False), (1 / 3, 0.7, True), (1.0, 0.6, False)]


def test_sensitivity_keeps_the_other_options_as_chosen(tmp_path, by_hand):
    found = {"0": [by_hand.experiment()]}
    for density, scale, validation in ((1, 1, 50), (1, 2, 60), (2, 1, 55), (2, 2, 40)):
        name = f"{density}{scale}"
        found[name] = [
            by_hand.cell(name, "ties", {"density": density, "scale": scale}),
            *by_hand.scored(name, (50, 50), (50, 50, 50), (validation, validation)),
        ]
    database = by_hand.results(tmp_path, by_hand.Ledger(found))
    database.refresh()
    lines = "SELECT option, value, validation FROM sensitivity ORDER BY option, value"
    assert rows(database, lines) == [
        ("density", "1", 0.6),
        ("density", "2", 0.4),
        ("scale", "1", 0.5),
        ("scale", "2", 0.6),
    ]


def test_references_count_the_tasks_of_the_subset_alone(tmp_path, by_hand):
    found = by_hand.records()
    found["sub"] = [
        by_hand.cell("sub", "average", experts=["b/2"], sample=1),
        *by_hand.scored("sub", (80,), (20, 10, 30), (80,), tasks=["b/2"]),
    ]
    database = by_hand.results(tmp_path, by_hand.Ledger(found))
    database.refresh()
    held_in = (
        "SELECT method, held_in FROM leaderboard WHERE size = 1 AND kind = 'reference' "
        "ORDER BY method"
    )
    assert rows(database, held_in) == [("individual", 0.8), ("pretrained", 0.4)]
    sizes = "SELECT size, held_in FROM scaling WHERE method = 'average' ORDER BY size"
    assert rows(database, sizes) == [(1, 0.8), (2, 0.6)]


def test_seeds_are_averaged_before_options_are_chosen(tmp_path, by_hand):
    found = {"0": [by_hand.experiment()]}
    luck = {(0.1, 0): 90, (0.1, 1): 40, (0.5, 0): 70, (0.5, 1): 70}
    for (rate, seed), correct in luck.items():
        name = f"{rate}-{seed}"
        found[name] = [
            by_hand.cell(name, "dare", {"drop_rate": rate}, seed=seed),
            *by_hand.scored(name, (correct, correct), (50, 50, 50), (correct, correct)),
        ]
    database = by_hand.results(tmp_path, by_hand.Ledger(found))
    database.refresh()
    row = one(database, "SELECT * FROM leaderboard WHERE kind = 'merged'")
    assert (row["options"], row["seeds"]) == ("drop_rate 0.5", 2)


def test_front_holds_what_nothing_beats(small):
    front = "SELECT method FROM pareto WHERE on_front ORDER BY method"
    assert rows(small, front) == [("average",), ("regmean",)]


@pytest.mark.parametrize(
    ("r", "p"), [(0.828, 0.011), (0.972, 5.266e-5), (-0.853, 0.007), (0.0, 1.0)]
)
def test_p_values_are_the_papers(small, r, p):
    ((ours,),) = rows(small, f"SELECT pearson_p({r}, 8)")
    assert ours == pytest.approx(p, rel=0.03)


def test_an_older_definition_is_kept_but_not_shown(tmp_path, by_hand):
    ledger = by_hand.Ledger(by_hand.records())
    ledger.records["new"] = [
        by_hand.experiment("later", "2026-02-01"),
        by_hand.cell("avg", "average", definition="later"),
    ]
    database = by_hand.results(tmp_path, ledger)
    database.refresh()
    assert rows(database, "SELECT DISTINCT method FROM leaderboard") == [("average",)]
    ledger.records["back"] = [by_hand.experiment("now", "2026-03-01")]
    database.refresh()
    methods = rows(database, "SELECT DISTINCT method FROM leaderboard")
    assert len(methods) == 5


def test_the_papers_numbers_are_there(small):
    main = (
        "SELECT role, value FROM paper_results WHERE paper = 'realistic' "
        "AND source_table = 'Table 6' AND method = 'regmean' ORDER BY role"
    )
    assert rows(small, main) == [("generalization", 61.5), ("held_in", 66.2)]


def test_an_empty_ledger_gives_empty_answers(tmp_path, by_hand):
    database = by_hand.results(tmp_path, by_hand.Ledger({}))
    database.refresh()
    assert all(
        rows(database, f"SELECT * FROM {relation}") == [] for relation in RELATIONS
    )


def test_every_relation_says_which_question_it_answers(small):
    comments = dict(
        rows(
            small,
            "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal "
            "UNION ALL SELECT table_name, comment FROM duckdb_tables()",
        )
    )
    for relation in RELATIONS:
        assert "?" in question(relation)[0]
        assert comments[relation] == question(relation)[0]


def test_files_are_all_relations():
    folder = Path(__file__).parents[3] / "storage" / "views"
    assert {file.stem for file in folder.glob("*.sql")} == set(RELATIONS)
