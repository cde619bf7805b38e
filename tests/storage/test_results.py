"""The results database: built from a ledger written here by hand."""

import json
import math
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergegrid.errors import ResultsError
from storage.results import Results
from storage.schema import KEYS, RELATIONS, question

HELD_IN = ["a/1", "b/2"]
GENERALIZATION = ["a/2", "b/1", "b/3"]


class Ledger:
    """Records in memory, and what was read of them."""

    def __init__(self, records):
        self.records = dict(records)
        self.read_names = []

    def list(self):
        return set(self.records)

    def read(self, names):
        for name in sorted(names):
            self.read_names.append(name)
            yield name, [{"schema_version": 1, **row} for row in self.records[name]]


def score(cell, task, correct, split="test", examples=100):
    value = correct / examples
    return {
        "table": "scores",
        "cell": cell,
        "task": task,
        "split": split,
        "metric": "accuracy",
        "role": "held_in" if task in HELD_IN else "generalization",
        "correct": correct,
        "examples": examples,
        "value": value,
        "standard_error": math.sqrt(value * (1 - value) / examples),
    }


def cost(step, stage, seconds, flops=0, recorded_at="2026-01-01T00:00:00"):
    return {
        "table": "costs",
        "step": step,
        "stage": stage,
        "seconds": seconds,
        "flops": flops,
        "recorded_at": recorded_at,
    }


def cell(name, method, swept=None, experts=HELD_IN, definition="now", **columns):
    references = {"pretrained", "individual", "multitask"}
    return {
        "table": "cells",
        "experiment": "small",
        "definition": definition,
        "cell": name,
        "kind": "reference" if method in references else "merged",
        "method": method,
        "method_version": 1,
        "options": json.dumps(swept or {}),
        "swept": json.dumps(swept or {}),
        "experts": experts,
        "size": len(experts),
        "sample": 0,
        "seed": 0,
        **columns,
    }


def lineage(child, *parents):
    return [{"table": "lineage", "child": child, "parent": p} for p in parents]


def scored(name, held_in, generalization, validation=(), tasks=HELD_IN):
    return [
        *(score(name, t, c) for t, c in zip(tasks, held_in, strict=True)),
        *(score(name, tasks[i], c, "validation") for i, c in enumerate(validation)),
        *(
            score(name, t, c)
            for t, c in zip(GENERALIZATION, generalization, strict=True)
        ),
        cost(name, "evaluate", 1.0),
    ]


def experiment(definition="now", recorded_at="2026-01-02"):
    return {
        "table": "experiments",
        "experiment": "small",
        "definition": definition,
        "recorded_at": recorded_at,
    }


def records():
    """Two experts, merged by average and by task arithmetic with three scales."""
    found = {
        "0": [experiment()],
        "1": [cost("base", "pretrain", 60)],
        "2": [cost("xa", "train", 6), *lineage("xa", "base")],
        "3": [cost("xb", "train", 4), *lineage("xb", "base")],
        "4": [cost("ga", "gram", 2, 1000), *lineage("ga", "xa", "base")],
        "5": [
            cell("pre", "pretrained", experts=[]),
            *scored("pre", (50, 40), (60, 50, 40)),
            *lineage("pre", "base"),
        ],
        "6": [
            cell("ia", "individual", experts=["a/1"]),
            *scored("ia", (90,), (40, 30, 20), tasks=["a/1"]),
            *lineage("ia", "xa"),
        ],
        "7": [
            cell("ib", "individual", experts=["b/2"]),
            *scored("ib", (80,), (20, 10, 30), tasks=["b/2"]),
            *lineage("ib", "xb"),
        ],
        "8": [
            cell("avg", "average"),
            *scored("avg", (60, 60), (70, 50, 60), (60, 60)),
            cost("avg", "merge", 0.5, 16),
            *lineage("avg", "xa", "xb", "base"),
        ],
        "9": [
            cell("reg", "regmean", {"off_diagonal": 0.9}),
            *scored("reg", (81, 64), (70, 40, 30), (70, 70)),
            cost("reg", "merge", 2, 300),
            *lineage("reg", "xa", "xb", "ga"),
        ],
    }
    # The best scale by validation is the middle one; by test it would be the last.
    for scale, validation, test in ((0.1, 50, 50), (1 / 3, 70, 55), (1.0, 60, 99)):
        name = f"ta{scale:.1f}"
        found[name] = [
            cell(name, "task_arithmetic", {"scale": scale}),
            *scored(name, (test, test), (test, 50, 10), (validation, validation)),
            cost(name, "merge", 0.25, 32),
            *lineage(name, "xa", "xb", "base", "avg"),
        ]
    return found


def results(tmp_path, ledger):
    root = SimpleNamespace(local=tmp_path, cache=tmp_path / ".cache")
    return Results(root, ledger)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path = tmp_path_factory.mktemp("built")
    return results(path, Ledger(records())).refresh()


@pytest.fixture
def small(tmp_path, built):
    database = results(tmp_path, Ledger(records()))
    shutil.copy(built, database.path)
    return database


def one(database, sql):
    columns, (row,) = database.query(sql)
    return dict(zip(columns, row, strict=True))


def rows(database, sql):
    return database.query(sql)[1]


def tables(database):
    with duckdb.connect(database.path, read_only=True) as connection:
        return {
            table: sorted(map(rounded, connection.table(table).fetchall()), key=repr)
            for table in (*KEYS, *RELATIONS)
        }


def rounded(row):
    # A sum depends on the order of its terms in the last digits.
    return [round(value, 9) if isinstance(value, float) else value for value in row]


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


def test_a_model_for_each_task_is_listed_but_not_compared(tmp_path):
    found = records()
    found["tall"] = [
        cell("tall", "tall_masks", kind="per_task"),
        *(score("tall", t, c) for t, c in zip(HELD_IN, (88, 79), strict=True)),
        *(score("tall", task, 75, "validation") for task in HELD_IN),
        cost("tall", "merge", 1.0, 64),
        *lineage("tall", "xa", "xb", "base"),
    ]
    database = results(tmp_path, Ledger(found))
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
    without = results(tmp_path / "without", Ledger(records()))
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


def test_sensitivity_keeps_the_other_options_as_chosen(tmp_path):
    found = {"0": [experiment()]}
    for density, scale, validation in ((1, 1, 50), (1, 2, 60), (2, 1, 55), (2, 2, 40)):
        name = f"{density}{scale}"
        found[name] = [
            cell(name, "ties", {"density": density, "scale": scale}),
            *scored(name, (50, 50), (50, 50, 50), (validation, validation)),
        ]
    database = results(tmp_path, Ledger(found))
    database.refresh()
    lines = "SELECT option, value, validation FROM sensitivity ORDER BY option, value"
    assert rows(database, lines) == [
        ("density", "1", 0.6),
        ("density", "2", 0.4),
        ("scale", "1", 0.5),
        ("scale", "2", 0.6),
    ]


def test_references_count_the_tasks_of_the_subset_alone(tmp_path):
    found = records()
    found["sub"] = [
        cell("sub", "average", experts=["b/2"], sample=1),
        *scored("sub", (80,), (20, 10, 30), (80,), tasks=["b/2"]),
    ]
    database = results(tmp_path, Ledger(found))
    database.refresh()
    held_in = (
        "SELECT method, held_in FROM leaderboard WHERE size = 1 AND kind = 'reference' "
        "ORDER BY method"
    )
    assert rows(database, held_in) == [("individual", 0.8), ("pretrained", 0.4)]
    sizes = "SELECT size, held_in FROM scaling WHERE method = 'average' ORDER BY size"
    assert rows(database, sizes) == [(1, 0.8), (2, 0.6)]


def test_seeds_are_averaged_before_options_are_chosen(tmp_path):
    found = {"0": [experiment()]}
    luck = {(0.1, 0): 90, (0.1, 1): 40, (0.5, 0): 70, (0.5, 1): 70}
    for (rate, seed), correct in luck.items():
        name = f"{rate}-{seed}"
        found[name] = [
            cell(name, "dare", {"drop_rate": rate}, seed=seed),
            *scored(name, (correct, correct), (50, 50, 50), (correct, correct)),
        ]
    database = results(tmp_path, Ledger(found))
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


def test_an_older_definition_is_kept_but_not_shown(tmp_path):
    ledger = Ledger(records())
    ledger.records["new"] = [
        experiment("later", "2026-02-01"),
        cell("avg", "average", definition="later"),
    ]
    database = results(tmp_path, ledger)
    database.refresh()
    assert rows(database, "SELECT DISTINCT method FROM leaderboard") == [("average",)]
    ledger.records["back"] = [experiment("now", "2026-03-01")]
    database.refresh()
    methods = rows(database, "SELECT DISTINCT method FROM leaderboard")
    assert len(methods) == 5


@settings(max_examples=4)
@given(order=st.permutations(sorted(records())), cuts=st.sets(st.integers(1, 12)))
def test_in_steps_or_at_once_the_database_is_the_same(tmp_path_factory, order, cuts):
    found = records()
    twice = {name: [row | {"seconds": 99} for row in found[name]] for name in "89"}
    found |= {f"{name}-again": twice[name] for name in twice}
    order = [*order, *sorted(set(found) - set(order))]
    ledger = Ledger({})
    in_steps = results(tmp_path_factory.mktemp("steps"), ledger)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(order)], strict=True):
        ledger.records |= {name: found[name] for name in order[start:end]}
        in_steps.refresh()
    at_once = results(tmp_path_factory.mktemp("once"), Ledger(found))
    at_once.rebuild()
    assert tables(in_steps) == tables(at_once)


def test_of_two_rows_with_one_key_the_later_counts(tmp_path):
    ledger = Ledger(
        {
            "z": [cost("base", "pretrain", 1, recorded_at="2026-01-01")],
            "a": [cost("base", "pretrain", 2, recorded_at="2026-01-02")],
        }
    )
    database = results(tmp_path, ledger)
    database.refresh()
    assert rows(database, "SELECT seconds FROM costs") == [(2,)]


def test_only_new_records_are_read(small):
    ledger = small._ledger
    ledger.read_names.clear()
    small.refresh()
    assert ledger.read_names == []
    ledger.records["new"] = [cost("more", "train", 1)]
    small.refresh()
    assert ledger.read_names == ["new"]


def test_what_a_vanished_record_said_goes_with_it(small):
    del small._ledger.records["9"]
    small.refresh()
    assert rows(small, "SELECT * FROM leaderboard WHERE method = 'regmean'") == []


def test_another_schema_builds_the_database_anew(small, monkeypatch):
    monkeypatch.setattr("storage.results.schema_digest", lambda: "another")
    small._ledger.read_names.clear()
    small.refresh()
    assert set(small._ledger.read_names) == set(records())


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO cells (cell) VALUES ('x')",
        "DROP TABLE cells",
        "COPY cells TO '{path}/stolen.csv'",
        "ATTACH '{path}/other.duckdb'",
        "SELECT * FROM read_text('{path}/secret')",
        "SET threads = 1",
    ],
)
def test_a_query_changes_nothing_and_reads_nothing_else(small, tmp_path, statement):
    (tmp_path / "secret").write_text("secret")
    files = sorted(tmp_path.iterdir())
    with pytest.raises(ResultsError):
        small.query(statement.format(path=tmp_path))
    assert sorted(tmp_path.iterdir()) == files


def test_a_wrong_query_is_answered_in_one_line(small):
    with pytest.raises(ResultsError, match=r"^DuckDB: .*methd") as caught:
        small.query("SELECT methd\nFROM cells")
    assert "\n" not in str(caught.value)


def test_parameters_fill_question_marks(small):
    sql = "SELECT cell FROM cells WHERE method = ?"
    assert small.query(sql, ["average"]) == (["cell"], [("avg",)])


def foreign(path):
    duckdb.connect(path).execute("CREATE TABLE mine (x INTEGER)").close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"not a database at all" * 500),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: (path.unlink(), foreign(path)),
        lambda path: path.unlink(),
    ],
    ids=["garbage", "empty", "truncated", "foreign", "missing"],
)
def test_a_database_that_is_not_ours_is_named_and_can_be_made_anew(small, spoil):
    before = tables(small)
    spoil(small.path)
    with pytest.raises(ResultsError, match="python -m flows rebuild") as caught:
        small.query("SELECT 1")
    assert str(small.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if small.path.exists():
        with pytest.raises(ResultsError, match="python -m flows rebuild"):
            small.refresh()
    small.rebuild()
    assert tables(small) == before


def test_a_refresh_that_fails_leaves_the_old_database(small):
    before = tables(small)
    small._ledger.records["new"] = [{"table": "pictures"}]
    with pytest.raises(ResultsError, match=r"record new .*'pictures'"):
        small.refresh()
    assert tables(small) == before
    assert sorted(p.name for p in small.path.parent.iterdir()) == [
        ".cache",
        "results.duckdb",
    ]


def test_rows_of_a_newer_version_are_refused(tmp_path):
    ledger = Ledger({"new": [cost("base", "pretrain", 1) | {"schema_version": 2}]})
    with pytest.raises(ResultsError, match="version 2"):
        results(tmp_path, ledger).refresh()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    database = results(tmp_path / "file", Ledger(records()))
    with pytest.raises(ResultsError, match=r"^Cannot write .*results\.duckdb: "):
        database.refresh()


def test_readers_and_writers_do_not_disturb_one_another(small):
    failures, done = [], threading.Event()

    def read():
        while not done.is_set():
            try:
                assert len(rows(small, "SELECT * FROM leaderboard")) == 5
            except Exception as error:
                failures.append(error)
                return

    def write(writer):
        for turn in range(3):
            small._ledger.records[f"{writer}-{turn}"] = [
                cost(f"{writer}", "train", turn)
            ]
            small.refresh()

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(name,)) for name in "vw"]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert len(small._ledger.records) == len(records()) + 6
    assert rows(small, "SELECT count(*) FROM ingested") == [(len(records()) + 6,)]


def test_the_papers_numbers_are_there(small):
    main = (
        "SELECT role, value FROM paper_results WHERE paper = 'realistic' "
        "AND source_table = 'Table 6' AND method = 'regmean' ORDER BY role"
    )
    assert rows(small, main) == [("generalization", 61.5), ("held_in", 66.2)]


def test_an_empty_ledger_gives_empty_answers(tmp_path):
    database = results(tmp_path, Ledger({}))
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
    folder = Path(__file__).parents[2] / "storage" / "views"
    assert {file.stem for file in folder.glob("*.sql")} == set(RELATIONS)
