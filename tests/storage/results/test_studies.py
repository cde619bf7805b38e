"""Views about the papers' studies, over a few recipes whose best are known."""

import json

import pytest


def rows(database, sql):
    return database.query(sql)[1]


@pytest.fixture
def merged(tmp_path, by_hand):
    """Build a database of merges: name, method, options, validation and test."""

    def build(*merges, more=()):
        found = {"0": [by_hand.experiment()]}
        for name, method, options, validation, test, *columns in merges:
            found[name] = [
                by_hand.cell(name, method, options, **(columns[0] if columns else {})),
                *by_hand.scored(
                    name, (test, test), (test, test, test), (validation, validation)
                ),
            ]
        for index, row in enumerate(more):
            found[f"more {index}"] = [row]
        database = by_hand.results(tmp_path, by_hand.Ledger(found))
        database.refresh()
        return database

    return build


def test_at_each_scale_the_other_options_are_chosen_by_validation(merged):
    database = merged(
        ("a", "ties", {"scale": 0.5, "density": 0.1}, 60, 90),
        ("b", "ties", {"scale": 0.5, "density": 0.2}, 70, 40),
        ("c", "ties", {"scale": 1.0, "density": 0.1}, 50, 55),
        ("d", "average", {}, 40, 45),
    )
    asked = "SELECT method, scale, options, held_in, is_chosen FROM scale_sweeps"
    assert rows(database, asked) == [
        ("ties", 0.5, "density 0.2", 0.4, True),
        ("ties", 1.0, "density 0.1", 0.55, False),
    ]


def test_largest_entries_are_compared_with_as_many_at_random(merged):
    by = {"density": 0.2, "selection": "random"}
    database = merged(
        ("a", "ties", {"density": 0.2, "selection": "exact", "scale": 0.5}, 60, 50),
        ("b", "ties", {"density": 0.2, "selection": "exact", "scale": 1.0}, 50, 99),
        ("c", "ties", {**by, "scale": 0.5}, 40, 45, {"seed": 0}),
        ("d", "ties", {**by, "scale": 0.5}, 50, 35, {"seed": 1}),
        ("e", "ties", {**by, "scale": 1.0}, 20, 20, {"seed": 0}),
    )
    asked = "SELECT selection, density, options, seeds, held_in FROM selections"
    assert rows(database, asked) == [
        ("exact", 0.2, "scale 0.5", 1, 0.5),
        ("random", 0.2, "scale 0.5", 2, 0.4),
    ]


def test_thresholds_stand_beside_the_method_whose_task_vector_they_prune(merged):
    database = merged(
        ("ta", "task_arithmetic", {"scale": 0.3}, 60, 61),
        ("a", "consensus", {"merge_by": "task_arithmetic", "agreement": 1}, 50, 51),
        ("b", "consensus", {"merge_by": "task_arithmetic", "agreement": 2}, 70, 71),
        ("c", "consensus", {"merge_by": "ties", "agreement": 2}, 80, 81),
    )
    asked = (
        "SELECT merge_by, agreement, held_in, unpruned_held_in "
        "FROM consensus_thresholds"
    )
    assert rows(database, asked) == [
        ("task_arithmetic", 1, 0.51, 0.61),
        ("task_arithmetic", 2, 0.71, 0.61),
        ("ties", 2, 0.81, None),
    ]


def test_lines_do_not_cross_from_one_block_of_a_grid_to_another(merged, by_hand):
    # Two blocks sweep the density, each with a selection of its own that it does not
    # sweep: of equal densities, only those with the chosen selection are on the line.
    def cell(name, density, selection, percent):
        return [
            {
                **by_hand.cell(name, "ties", {"density": density}),
                "options": json.dumps({"density": density, "selection": selection}),
            },
            *by_hand.scored(name, (percent, percent), (50, 50, 50), (percent, percent)),
        ]

    database = merged(
        more=[
            row
            for made in (
                cell("a", 0.1, "exact", 50),
                cell("b", 0.2, "exact", 70),
                cell("c", 0.1, "random", 60),
                cell("d", 0.2, "random", 65),
            )
            for row in made
        ]
    )
    asked = "SELECT number, held_in, place FROM sensitivity ORDER BY number"
    assert rows(database, asked) == [(0.1, 0.5, 0), (0.2, 0.7, 1)]


def test_values_have_places_in_their_order(small):
    asked = "SELECT number, place FROM sensitivity WHERE method = 'task_arithmetic'"
    assert rows(small, asked) == [(0.1, 0), (1 / 3, 1), (1.0, 2)]


@pytest.fixture
def growing(tmp_path, by_hand):
    """Three experts that are merged in two orders, b first in one of them."""

    def build(grid):
        tasks = ["a/1", "b/2", "c/3"]
        found = {
            "0": [
                {**by_hand.experiment(), "document": json.dumps({"grid": grid})},
                *(
                    row
                    for task, correct in zip(tasks, (90, 80, 70), strict=True)
                    for row in (
                        by_hand.cell(f"i{task}", "individual", experts=[task]),
                        {**by_hand.score(f"i{task}", task, correct), "role": "held_in"},
                    )
                ),
            ]
        }
        for experts, correct in (
            (["a/1", "b/2"], (60, 61)),
            (["b/2", "c/3"], (50, 51)),
            (tasks, (40, 41, 42)),
        ):
            name = "+".join(experts)
            found[name] = [
                by_hand.cell(name, "average", experts=experts, sample=1),
                *(
                    {**by_hand.score(name, task, percent), "role": "held_in"}
                    for task, percent in zip(experts, correct, strict=True)
                ),
            ]
        database = by_hand.results(tmp_path, by_hand.Ledger(found))
        database.refresh()
        return database

    return build


GROWN = "SELECT series, task, place, size, accuracy, individual FROM incremental"


def test_a_task_is_followed_from_when_its_expert_is_merged_in(growing):
    database = growing([{"subsets": {"incremental": ["b/2", "a/1", "c/3"]}}])
    assert rows(database, GROWN) == [
        (1, "b/2", 1, 2, 0.61, 0.8),
        (1, "b/2", 1, 3, 0.41, 0.8),
        (1, "a/1", 2, 2, 0.6, 0.9),
        (1, "a/1", 2, 3, 0.4, 0.9),
        (1, "c/3", 3, 3, 0.42, 0.7),
    ]


def test_given_orders_are_series_too_and_each_is_one(growing):
    order = ["c/3", "b/2", "a/1"]
    database = growing(
        [
            {"subsets": {"orders": {"given": [order], "sizes": [2, 3]}}},
            {"subsets": {"orders": {"given": [order], "sizes": [2]}}},
            {"subsets": {"incremental": order, "orders": None}},
            {"subsets": {"incremental": None, "all": True}},
            {},
        ]
    )
    firsts = f"{GROWN} WHERE place = 1"
    assert rows(database, firsts) == [
        (1, "c/3", 1, 2, 0.51, 0.7),
        (1, "c/3", 1, 3, 0.42, 0.7),
    ]


def test_without_orders_nothing_grows(small):
    assert rows(small, "FROM incremental") == []


def test_memory_is_that_of_the_chosen_merge_and_its_statistics(tmp_path, by_hand):
    found = by_hand.records()
    found["9"] = [
        {**row, "peak_memory": 300.0} if row["table"] == "costs" else row
        for row in found["9"]
    ]
    found["4"] = [{**found["4"][0], "peak_memory": 200.0}, *found["4"][1:]]
    found["1"] = [{**found["1"][0], "peak_memory": 900.0}]
    database = by_hand.results(tmp_path, by_hand.Ledger(found))
    database.refresh()
    asked = "SELECT method, stage, peak_memory FROM memory_peaks"
    assert rows(database, asked) == [
        ("regmean", "merge", 300),
        ("regmean", "gram", 200),
    ]


def test_seconds_have_a_front_of_their_own(small):
    asked = (
        "SELECT method, total_seconds, on_held_in_time_front FROM pareto "
        "ORDER BY method"
    )
    assert rows(small, asked) == [
        ("average", 0.5, True),
        ("regmean", 4, True),
        ("task_arithmetic", 0.25, True),
    ]


def test_accuracies_on_tasks_count_the_test_examples_once(tmp_path, by_hand):
    found = {"0": [by_hand.experiment()]}
    for seed, correct in ((0, 60), (1, 80)):
        name = f"dare {seed}"
        found[name] = [
            by_hand.cell(name, "dare", {}, seed=seed),
            *by_hand.scored(name, (correct, 50), (50, 50, 50), (50, 50)),
        ]
    database = by_hand.results(tmp_path, by_hand.Ledger(found))
    database.refresh()
    asked = "SELECT accuracy, examples FROM task_accuracies WHERE task = 'a/1'"
    assert rows(database, asked) == [(0.7, 100)]


def test_macros_say_what_they_answer_and_can_be_found(small):
    macros = (
        "SELECT function_name, comment FROM duckdb_functions() "
        "WHERE function_type = 'table_macro' AND NOT internal "
        "AND database_name = current_database() ORDER BY function_name"
    )
    found = dict(rows(small, macros))
    assert set(found) == {"bootstrap", "bootstrap_replicates"}
    assert all("?" in comment for comment in found.values())
