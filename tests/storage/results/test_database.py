"""The results database: built from records, read by queries, and mended."""

import threading

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergegrid.errors import ResultsError
from storage import ingest
from storage.schema import KEYS, RELATIONS


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


def foreign(path):
    duckdb.connect(path).execute("CREATE TABLE mine (x INTEGER)").close()


@settings(max_examples=4)
@given(data=st.data(), cuts=st.sets(st.integers(1, 12)))
def test_in_steps_or_at_once_the_database_is_the_same(
    tmp_path_factory, data, cuts, by_hand
):
    found = by_hand.records()
    order = data.draw(st.permutations(sorted(found)))
    changed = {"costs": {"seconds": 99}}
    twice = {
        name: [row | changed.get(row["table"], {}) for row in found[name]]
        for name in "89"
    }
    found |= {f"{name}-again": twice[name] for name in twice}
    order = [*order, *sorted(set(found) - set(order))]
    ledger = by_hand.Ledger({})
    in_steps = by_hand.results(tmp_path_factory.mktemp("steps"), ledger)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(order)], strict=True):
        ledger.records |= {name: found[name] for name in order[start:end]}
        in_steps.refresh()
    at_once = by_hand.results(tmp_path_factory.mktemp("once"), by_hand.Ledger(found))
    at_once.rebuild()
    assert tables(in_steps) == tables(at_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "_BATCH", 3)
        patch.setattr(ingest, "_PORTION", 7)
        in_portions = by_hand.results(
            tmp_path_factory.mktemp("portions"), by_hand.Ledger(found)
        )
        in_portions.rebuild()
    assert tables(in_portions) == tables(at_once)


def test_counts_beyond_what_a_float_holds_exactly_are_taken(tmp_path, by_hand):
    many = 2**60 + 1
    ledger = by_hand.Ledger({"1": [by_hand.cost("train-v1-x", "train", 1.0, many)]})
    database = by_hand.results(tmp_path, ledger)
    database.refresh()
    assert rows(database, "SELECT flops FROM costs") == [(float(many),)]


def test_memory_for_rows_on_their_way_does_not_grow_with_the_ledger(
    monkeypatch, tmp_path, by_hand
):
    monkeypatch.setattr(ingest, "_BATCH", 50)
    held = []

    class Watched(by_hand.Ledger):
        def read(self, names):
            for record in super().read(names):
                held.append(pa.total_allocated_bytes())
                yield record

    found = {
        f"{cell}": [by_hand.score(f"{cell}", f"a/{task}", 50) for task in range(50)]
        for cell in range(40)
    }
    by_hand.results(tmp_path, Watched(found)).refresh()
    assert max(held[20:]) <= max(held[:20])


def test_of_two_rows_with_one_key_the_later_counts(tmp_path, by_hand):
    ledger = by_hand.Ledger(
        {
            "z": [by_hand.cost("base", "pretrain", 1, recorded_at="2026-01-01")],
            "a": [by_hand.cost("base", "pretrain", 2, recorded_at="2026-01-02")],
        }
    )
    database = by_hand.results(tmp_path, ledger)
    database.refresh()
    assert rows(database, "SELECT seconds FROM costs") == [(2,)]


def test_only_new_records_are_read(small, by_hand):
    ledger = small._ledger
    ledger.read_names.clear()
    small.refresh()
    assert ledger.read_names == []
    ledger.records["new"] = [by_hand.cost("more", "train", 1)]
    small.refresh()
    assert ledger.read_names == ["new"]


def test_what_a_vanished_record_said_goes_with_it(small):
    del small._ledger.records["9"]
    small.refresh()
    assert rows(small, "SELECT * FROM leaderboard WHERE method = 'regmean'") == []


def test_another_schema_builds_the_database_anew(small, monkeypatch, by_hand):
    monkeypatch.setattr("storage.results.schema_digest", lambda: "another")
    small._ledger.read_names.clear()
    small.refresh()
    assert set(small._ledger.read_names) == set(by_hand.records())


def test_a_wrong_query_is_answered_in_one_line(small):
    with pytest.raises(ResultsError, match=r"^DuckDB: .*methd") as caught:
        small.query("SELECT methd\nFROM cells")
    assert "\n" not in str(caught.value)


def test_parameters_fill_question_marks(small):
    sql = "SELECT cell FROM cells WHERE method = ?"
    assert small.query(sql, ["average"]) == (["cell"], [("avg",)])


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


def test_a_place_that_cannot_be_written_is_named(tmp_path, by_hand):
    (tmp_path / "file").write_text("")
    database = by_hand.results(tmp_path / "file", by_hand.Ledger(by_hand.records()))
    with pytest.raises(ResultsError, match=r"^Cannot write .*results\.duckdb: "):
        database.refresh()


def test_readers_and_writers_do_not_disturb_one_another(small, by_hand):
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
                by_hand.cost(f"{writer}", "train", turn)
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
    assert len(small._ledger.records) == len(by_hand.records()) + 6
    assert rows(small, "SELECT count(*) FROM ingested") == [
        (len(by_hand.records()) + 6,)
    ]
