"""The papers' numbers as data, and ours beside them."""

import collections
import csv
import json

import pytest

from storage.schema import papers

KEY = (
    "paper",
    "source_table",
    "suite",
    "model",
    "task",
    "method",
    "setting",
    "metric",
    "role",
)


def published():
    found = []
    for path in papers():
        with path.open(newline="", encoding="utf-8") as file:
            found += csv.DictReader(file)
    return found


def rows(database, sql):
    return database.query(sql)[1]


def test_all_five_papers_are_there(small):
    assert {row["paper"] for row in published()} == {
        "ties", "re_ties", "tall", "supermerge", "realistic",
    }  # fmt: skip
    ((count,),) = rows(small, "SELECT count(*) FROM paper_results")
    assert count == len(published())


def test_no_number_is_there_twice():
    keys = collections.Counter(tuple(row[name] for name in KEY) for row in published())
    assert [key for key, count in keys.items() if count > 1] == []


def test_a_method_has_one_main_result():
    alike = [name for name in KEY if name != "source_table"]
    keys = collections.Counter(
        tuple(row[name] for name in alike)
        for row in published()
        if row["setting"] == "main"
    )
    assert [key for key, count in keys.items() if count > 1] == []


def test_a_printed_mean_is_the_mean_of_its_tasks_or_says_that_it_is_not():
    means, tasks = {}, collections.defaultdict(list)
    for row in published():
        key = tuple(row[name] for name in KEY if name != "task")
        if row["task"]:
            tasks[key].append(float(row["value"]))
        else:
            means[key] = row
    assert len(tasks) > 100
    for key, values in tasks.items():
        printed = means[key]
        distance = abs(sum(values) / len(values) - float(printed["value"]))
        assert distance < 0.2 or "not the mean" in printed["note"], key


@pytest.mark.parametrize(
    ("paper", "suite", "model", "method", "value"),
    [  # as read from the papers a second time, by someone else
        ("ties", "nlp7", "t5-base", "ties", 73.9),
        ("ties", "nlp7", "t5-large", "ties", 76.9),
        ("ties", "p3_11", "t0-3b", "task_arithmetic", 63.9),
        ("ties", "vision8", "ViT-L-14", "fisher", 82.2),
        ("re_ties", "nlp7", "t5-base", "ties", 72.7),
        ("re_ties", "vision8", "ViT-B-32", "regmean", 80.1),
        ("tall", "vision20", "ViT-B-32", "consensus", 65.4),
        ("tall", "qa8", "t5-large-lm-adapt", "tall_masks", 79.6),
        ("supermerge", "p3_11", "t0-3b", "supermerge", 69.6),
    ],
)
def test_main_results_are_those_of_the_papers(paper, suite, model, method, value):
    (row,) = (
        row
        for row in published()
        if (row["paper"], row["suite"], row["model"]) == (paper, suite, model)
        and (row["method"], row["setting"], row["role"]) == (method, "main", "held_in")
        and row["metric"] == "accuracy"
        and not row["task"]
    )
    assert float(row["value"]) == value


def test_rows_in_another_order_than_their_heads_are_set_right():
    # MNIST is the easiest of the eight, and was printed under DTD or SVHN.
    for paper in ("ties", "supermerge"):
        multitask = {
            row["task"]: float(row["value"])
            for row in published()
            if row["paper"] == paper
            and (row["model"], row["method"]) == ("ViT-B-32", "multitask")
            and row["task"]
        }
        assert max(multitask, key=multitask.get) == "mnist"


def of_suite(by_hand, tmp_path, suite, **options):
    found = by_hand.records()
    document = json.dumps({"suite": {"name": suite, **options}})
    found["0"] = [by_hand.experiment() | {"suite": suite, "document": document}]
    database = by_hand.results(tmp_path, by_hand.Ledger(found))
    database.refresh()
    return database


def test_our_gain_stands_beside_the_papers(by_hand, tmp_path):
    database = of_suite(by_hand, tmp_path, "nlp7", model="t5-base")
    ((value, gain, paper_value, paper_gain),) = rows(
        database,
        "SELECT value, gain, paper_value, paper_gain FROM against_paper "
        "WHERE paper = 'ties' AND suite = 'nlp7' AND model = 't5-base' "
        "AND method = 'regmean' AND role = 'held_in'",
    )
    assert value == pytest.approx((81 + 64) / 2)
    assert gain == pytest.approx((81 + 64) / 2 - (50 + 40) / 2)
    assert paper_value == pytest.approx(71.2)
    assert paper_gain == pytest.approx(71.2 - 53.5)


def test_what_differs_is_said(by_hand, tmp_path):
    database = of_suite(by_hand, tmp_path, "nlp7", model="t5-base")
    differs = {
        (paper, suite, model): text
        for paper, suite, model, text in rows(
            database,
            "SELECT paper, suite, model, differs FROM against_paper "
            "WHERE method = 'task_arithmetic' AND role = 'held_in'",
        )
    }
    same = differs["ties", "nlp7", "t5-base"]
    assert "theirs is" not in same
    assert "prompts" in same
    assert "noise of 32 examples" in same  # what is odd about this very number
    assert "model: theirs is t5-large" in differs["ties", "nlp7", "t5-large"]
    assert "splits" in differs["tall", "nlp7", "t5-large-lm-adapt"]
    other = differs["realistic", "domainnet", "ViT-B-32"]
    assert other.startswith("suite: theirs is domainnet")
    assert "experts" not in other  # which matters where all else is the same


def test_a_paper_without_a_pretrained_model_has_values_and_no_gain(by_hand, tmp_path):
    database = of_suite(by_hand, tmp_path, "p3_11")
    found = rows(
        database,
        "SELECT value, paper_value, paper_gain FROM against_paper "
        "WHERE paper = 'supermerge' AND suite = 'p3_11' "
        "AND method = 'task_arithmetic' ORDER BY role",
    )
    assert [row[1:] for row in found] == [(62.0, None), (63.3, None)]


def test_sweeps_and_single_tasks_are_not_put_beside_ours(by_hand, tmp_path):
    database = of_suite(by_hand, tmp_path, "nlp7")
    ((most,),) = rows(
        database,
        "SELECT max(count) FROM (SELECT count(*) AS count FROM against_paper "
        "GROUP BY paper, suite, model, method, role)",
    )
    assert most == 1
