"""Views about learned merging, over steps that learn and are written by hand."""

import json

import pytest


@pytest.fixture
def ask(by_hand, tmp_path):
    """Build a database from the small experiment and more rows; give what answers."""

    def answer(rows, sql, *, few_shot="validation"):
        document = {
            "training": {"few_shot": {"split": few_shot}},
            "statistics": {"fisher": {"split": "train"}, "gram": {"split": "train"}},
        }
        told = by_hand.experiment() | {"document": json.dumps(document)}
        records = by_hand.records() | {"0": [told], "learned": rows}
        ledger = by_hand.Ledger(records)
        database = by_hand.results(tmp_path, ledger)
        database.refresh()
        columns, found = database.query(sql)
        return [dict(zip(columns, row, strict=True)) for row in found]

    return answer


@pytest.fixture
def merge(by_hand):
    """Write a merge with its scores, and the steps that it needs."""

    def write(name, method, parents=(), *, options=None, validation=60, **columns):
        rows = [
            by_hand.cell(name, method, options, **columns),
            *by_hand.scored(name, (60, 60), (50, 50, 50), (validation, validation)),
            {**by_hand.cost(name, "merge", 1, 10), "paper_memory": 80.0},
            *by_hand.lineage(name, *parents),
        ]
        for row in rows:  # every recipe has all its options, swept or not
            if row["table"] == "cells":
                row["options"] = json.dumps({"split": "validation"} | (options or {}))
        return rows

    return write


@pytest.fixture
def step(by_hand):
    """Write what a step costs, and what it is made from."""

    def write(name, stage, parents=(), **columns):
        cost = by_hand.cost(name, stage, columns.pop("seconds", 1), 600)
        return [cost | columns, *by_hand.lineage(name, *parents)]

    return write


def coefficient(step, task, parameter, place, value):
    return {
        "table": "coefficients",
        "step": step,
        "task": task,
        "parameter": parameter,
        "place": place,
        "layer_kind": "attention",
        "depth": 0,
        "layers": 2,
        "value": value,
    }


def look(step, updates, node="", **columns):
    return {
        "table": "learning",
        "step": step,
        "node": node,
        "updates": updates,
        "loss": None,
        "held_out": None,
        "labels": None,
        "collapsed": [],
        "trained": 4,
        "together": 2,
    } | columns


def budgets(ask, rows, **document):
    sql = "SELECT method, labelled, unlabelled FROM budgets WHERE subset = 1"
    found = ask(rows, sql, **document)
    assert len({row["method"] for row in found}) == len(found)
    return {row["method"]: (row["labelled"], row["unlabelled"]) for row in found}


def test_one_recipe_needs_no_labels_and_a_choice_all_of_validation(ask):
    found = budgets(ask, [])
    assert found["average"] == (0, 0)
    assert found["regmean"] == (0, 0)
    assert found["task_arithmetic"] == (200, 0)  # two tasks of a hundred examples
    assert found["pretrained"] == found["individual"] == (0, 0)


def test_options_that_other_cells_scores_chose_need_all_of_validation(ask, merge):
    rows = merge("best", "ties", ["xa", "xb", "avg"])
    rows += merge("given", "mlerp", ["xa", "xb"])
    found = budgets(ask, rows)
    assert found["ties"] == (200, 0)
    assert found["mlerp"] == (0, 0)


def test_what_is_learned_from_is_counted_once_however_often_it_is_seen(
    ask, merge, step
):
    rows = [
        *step("la", "learn", ["xa", "xb"], labelled=40, unlabelled=0, examples=900),
        *step("lb", "learn", ["xa", "xb"], labelled=0, unlabelled=50, examples=900),
        *merge("sm", "supermerge", ["la"]),
        *merge("am", "adamerging", ["lb"]),
    ]
    found = budgets(ask, rows)
    assert found["supermerge"] == (40, 0)
    assert found["adamerging"] == (0, 50)


def test_learning_from_validation_adds_nothing_to_a_choice_by_it(ask, merge, step):
    rows = []
    for name, labelled, validation in (("s", 40, 70), ("t", 200, 60)):
        rows += step(f"l{name}", "learn", labelled=labelled, unlabelled=0)
        options = {"examples": labelled // 2}
        rows += merge(
            name, "supermerge", [f"l{name}"], options=options, validation=validation
        )
    assert budgets(ask, rows)["supermerge"] == (200, 0)
    found = ask(
        rows,
        "SELECT options, labelled, is_chosen FROM budget_curve "
        "WHERE method = 'supermerge'",
    )
    assert [tuple(row.values()) for row in found] == [
        ("examples 20", 40, True),
        ("examples 100", 200, False),
    ]


def test_statistics_of_single_experts_add_up_and_those_of_stages_do_not(
    ask, merge, step
):
    rows = [
        *step("fa", "fisher", ["xa"], labelled=0, unlabelled=30),
        *step("fb", "fisher", ["xb"], labelled=0, unlabelled=20),
        *step("gb", "gram", ["xb"], labelled=0, unlabelled=10),
        *merge("f", "fisher", ["fa", "fb", "gb"]),
    ]
    assert budgets(ask, rows)["fisher"] == (0, 50)


def test_training_experts_is_nobodys_budget_and_multitask_training_its_own(
    ask, merge, step, by_hand
):
    rows = [
        *step("xc", "train", ["base"], labelled=999, unlabelled=0),
        *step("mm", "multitask", ["base"], labelled=800, unlabelled=0),
        *merge("t", "ties", ["xc"]),
        by_hand.cell("multi", "multitask"),
        *by_hand.scored("multi", (80, 80), (50, 50, 50)),
        *by_hand.lineage("multi", "mm"),
    ]
    found = budgets(ask, rows)
    assert found["ties"] == (0, 0)
    assert found["multitask"] == (800, 0)


def test_signs_of_a_few_shot_model_cost_its_labels(ask, merge, step):
    rows = [
        *step("fs", "few_shot", ["base"], labelled=64, unlabelled=0),
        *merge("t", "ties", ["xa", "xb", "fs"], options={"election": "few_shot"}),
    ]
    assert budgets(ask, rows)["ties"] == (64, 0)


@pytest.mark.parametrize("relation", ["budgets", "budget_curve", "leaderboard"])
def test_only_what_was_adapted_to_the_test_inputs_is_transductive(ask, merge, relation):
    rows = [
        *merge("a", "adamerging", options={"split": "test"}),
        *merge("b", "adamerging_pp", options={"split": "validation"}),
    ]
    sql = f"SELECT method FROM {relation} WHERE transductive"
    assert ask(rows, sql) == [{"method": "adamerging"}]


def test_coefficients_of_chosen_recipes_come_in_the_models_order(ask, merge, step):
    rows = []
    for name, validation in (("s", 70), ("t", 60)):
        rows += step(f"l{name}", "learn", labelled=40)
        options = {"steps": validation}
        rows += merge(
            name, "supermerge", [f"l{name}"], options=options, validation=validation
        )
        rows += [
            coefficient(f"l{name}", task, parameter, place, validation / 100 + place)
            for place, parameter in ((1, "a"), (0, "z"))
            for task in ("b/2", "a/1")
        ]
    found = ask(
        rows, "SELECT parameter, task, value, options FROM learned_coefficients"
    )
    assert [tuple(row.values()) for row in found] == [
        ("z", "a/1", 0.7, "steps 70"),
        ("z", "b/2", 0.7, "steps 70"),
        ("a", "a/1", 1.7, "steps 70"),
        ("a", "b/2", 1.7, "steps 70"),
    ]


def test_each_seed_has_its_own_coefficients(ask, merge, step):
    rows = []
    for seed in (0, 1):
        rows += step(f"l{seed}", "learn", labelled=40)
        rows += merge(f"s{seed}", "supermerge", [f"l{seed}"], seed=seed)
        rows.append(coefficient(f"l{seed}", "a/1", "a", 0, 0.1 * seed))
    found = ask(rows, "SELECT seed, value FROM learned_coefficients")
    assert [tuple(row.values()) for row in found] == [(0, 0.0), (1, 0.1)]


def test_curves_are_of_every_recipe_and_say_which_was_chosen(ask, merge, step):
    rows = []
    for name, validation in (("s", 70), ("t", 60)):
        rows += step(f"l{name}", "learn", labelled=40)
        rows += merge(
            name,
            "adamerging",
            [f"l{name}"],
            options={"steps": validation},
            validation=validation,
        )
    rows += [
        look("ls", 10, loss=0.5, labels=0.2, collapsed=["a/1"]),
        look("ls", 0, labels=1.0, collapsed=["a/1"]),
        look("ls", 5, loss=0.7, labels=0.6, collapsed=["a/1"]),
        look("lt", 0, node="a/1+b/2", held_out=2.0),
    ]
    found = ask(
        rows,
        "SELECT options, node, updates, loss, labels, collapsed, is_chosen "
        "FROM learning_curves",
    )
    assert [tuple(row.values()) for row in found] == [
        ("steps 60", "a/1+b/2", 0, None, None, [], False),
        ("steps 70", "", 0, None, 1.0, ["a/1"], True),
        ("steps 70", "", 5, 0.7, 0.6, ["a/1"], True),
        ("steps 70", "", 10, 0.5, 0.2, ["a/1"], True),
    ]


def test_what_learning_takes_stands_beside_multitask_training_and_plain_merges(
    ask, merge, step, by_hand
):
    rows = [
        *step(
            "la",
            "learn",
            ["xa", "xb"],
            seconds=7,
            labelled=40,
            unlabelled=0,
            examples=120,
            paper_memory=5e6,
            peak_memory=9e6,
        ),
        look("la", 0),
        look("la", 10, loss=1.0),
        *merge("sm", "supermerge", ["la"]),
        *step("mm", "multitask", ["base"], labelled=800, examples=1600),
        by_hand.cell("multi", "multitask"),
        *by_hand.scored("multi", (80, 80), (50, 50, 50)),
        *by_hand.lineage("multi", "mm"),
    ]
    found = ask(rows, "FROM learning_costs WHERE subset = 1")
    by_stage = {(row["method"], row["stage"]): row for row in found}
    assert by_stage.keys() == {
        ("supermerge", "learn"),
        ("supermerge", "merge"),
        ("multitask", "multitask"),
        ("average", "merge"),
        ("regmean", "merge"),
        ("task_arithmetic", "merge"),
    }
    learned = by_stage["supermerge", "learn"]
    assert (learned["trained"], learned["together"]) == (4, 2)
    assert (learned["paper_memory"], learned["peak_memory"]) == (5e6, 9e6)
    assert (learned["labelled"], learned["epochs"], learned["seconds"]) == (40, 3, 7)
    assert (learned["flops"], learned["flops_per_epoch"]) == (600, 200)
    merged = by_stage["supermerge", "merge"]
    assert (merged["paper_memory"], merged["trained"], merged["epochs"]) == (
        80,
        None,
        None,
    )
    assert by_stage["multitask", "multitask"]["epochs"] == 2


def test_labels_of_other_splits_than_the_one_that_chooses_add_up(ask, merge, step):
    rows = [
        *step("lt", "learn", ["xa"], labelled=300, unlabelled=0),
        *step("mm", "multitask", ["base"], labelled=800, unlabelled=0),
        *step("ft", "fisher", ["xa"], labelled=30, unlabelled=0),
    ]
    for rate, validation in ((0.1, 70), (0.2, 60)):
        for method, options, parent in (
            ("supermerge", {"learning_rate": rate, "split": "train"}, "lt"),
            ("ties", {"scale": rate}, "mm"),
            ("fisher", {"floor": rate}, "ft"),
        ):
            name = f"{method}{rate}"
            rows += merge(
                name, method, [parent], options=options, validation=validation
            )
    found = budgets(ask, rows)
    assert found["supermerge"] == (500, 0)  # 300 of training, 200 of validation
    assert found["ties"] == (1000, 0)
    assert found["fisher"] == (230, 0)


@pytest.mark.parametrize(("split", "labels"), [("validation", 200), ("train", 264)])
def test_a_few_shot_models_labels_are_of_the_split_that_the_experiment_says(
    ask, merge, step, split, labels
):
    rows = step("fs", "few_shot", ["base"], labelled=64, unlabelled=0)
    for scale in (0.1, 0.2):
        rows += merge(f"t{scale}", "ties", ["fs"], options={"scale": scale})
    assert budgets(ask, rows, few_shot=split)["ties"] == (labels, 0)


def test_what_learning_takes_is_of_the_chosen_recipe_alone(ask, merge, step):
    rows = []
    for name, seconds, validation in (("s", 7, 60), ("t", 9, 70)):
        rows += step(f"l{name}", "learn", seconds=seconds, labelled=40)
        options = {"steps": seconds}
        rows += merge(
            name, "supermerge", [f"l{name}"], options=options, validation=validation
        )
    sql = "SELECT seconds FROM learning_costs WHERE stage = 'learn'"
    assert ask(rows, sql) == [{"seconds": 9}]
