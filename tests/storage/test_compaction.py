import os
import random
import threading

import pytest

from mergegrid.canonical import canonical_json, digest
from mergegrid.errors import StorageError
from storage import directory
from storage.compaction import GRACE_SECONDS, Compaction, compact
from storage.ledger import Ledger
from storage.root import Root

NOW = 1_000_000.0
LATER = NOW + GRACE_SECONDS + 1


def fill(ledger, units=12, start=0):
    for i in range(start, start + units):
        text = f"line\n\u2028\x1c\r{i}"
        ledger.append(f"cell-{i}", [{"table": "scores", "i": i, "text": text}] * 3)
        ledger.append(f"cell-{i}", [{"table": "costs", "seconds": i / 7}])


def everything(ledger):
    return dict(Ledger(ledger.root).read(Ledger(ledger.root).list()))


@pytest.fixture
def ledger(root):
    return Ledger(root)


@pytest.fixture
def local(tmp_path):
    ledger = Ledger(Root.open(str(tmp_path / "root")))
    fill(ledger)
    return ledger


def test_readers_see_no_difference_before_during_and_after(ledger):
    fill(ledger)
    before, names = everything(ledger), ledger.list()
    assert compact(ledger, least=1, now=NOW) == Compaction(24, 1, 0)
    assert ledger.loose() == names  # the grace period
    assert (everything(ledger), ledger.list()) == (before, names)
    assert compact(ledger, least=1, now=LATER) == Compaction(0, 0, 24)
    assert ledger.loose() == set()
    assert (everything(ledger), ledger.list()) == (before, names)
    assert ledger.has("cell-3")
    assert ledger.recorded({"cell-3", "cell-99", "cell-"}) == {"cell-3"}
    assert len(ledger.rows("cell-3")) == 4
    assert ledger.units() == {f"cell-{i}" for i in range(12)}


def test_new_records_go_to_new_segments_and_few_wait(local):
    compact(local, least=1, now=NOW)
    fill(local, units=2, start=20)
    assert compact(local, least=5, now=NOW) == Compaction(0, 0, 0)
    before = everything(local)
    assert compact(local, least=4, now=NOW) == Compaction(4, 1, 0)
    compact(local, least=1, now=LATER)
    assert everything(local) == before
    assert len(local.segments.listed()) == 2


def test_a_large_ledger_becomes_several_segments(local, monkeypatch):
    monkeypatch.setattr("storage.compaction._SEGMENT_BYTES", 1000)
    before = everything(local)
    assert compact(local, least=1, now=NOW).segments > 3
    compact(local, now=LATER)
    assert local.loose() == set()
    assert everything(local) == before


def test_a_reader_that_listed_before_a_deletion_finds_what_it_listed(
    local, monkeypatch
):
    monkeypatch.setattr("storage.ledger._BATCH", 1)  # reads nothing ahead
    reader = Ledger(local.root)
    before, names = everything(local), reader.list()
    reading = reader.read(names)
    seen = dict([next(reading)])
    compact(local, least=1, now=NOW)
    compact(local, least=1, now=LATER)
    seen.update(reading)
    assert seen == before


def test_adding_again_what_a_segment_holds_changes_nothing(local):
    compact(local, least=1, now=NOW)
    compact(local, least=1, now=LATER)
    before = everything(local)
    fill(local)
    assert everything(local) == before
    assert compact(local, least=1, now=LATER) == Compaction(0, 0, 24)


def damage(ledger, change):
    (segment,) = ledger.segments.listed()
    ledger.root.write(segment.path, change(ledger.root.read(segment.path)))
    return segment


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("change", [flip, lambda data: data[:-1], lambda _: b""])
def test_a_damaged_segment_costs_nothing_while_its_records_are_there(local, change):
    before = everything(local)
    compact(local, least=1, now=NOW)
    damage(local, change)
    compact(local, least=100, now=LATER)  # deletes nothing that is not held elsewhere
    assert everything(local) == before
    assert compact(local, least=1, now=NOW) == Compaction(24, 1, 0)
    compact(local, least=1, now=LATER)
    assert everything(local) == before


def test_a_segment_is_read_once_for_many_units_and_anew_before_files_go(
    local, monkeypatch
):
    compact(local, least=1, now=NOW)
    names = local.list()
    read, paths = local.root.read, []
    monkeypatch.setattr(
        local.root, "read", lambda path: paths.append(path) or read(path)
    )
    rows = [local.rows(f"cell-{i}") for i in range(12)]
    assert [len(found) for found in rows] == [4] * 12
    assert sum(path.endswith(".parquet") for path in paths) == 1
    damage(local, flip)
    assert compact(local, least=100, now=LATER).deleted == 0
    assert local.loose() == names


def test_records_lost_with_a_segment_are_no_longer_listed(local, caplog):
    compact(local, least=1, now=NOW)
    compact(local, least=1, now=LATER)
    segment = damage(local, flip)
    reader = Ledger(local.root)
    assert list(reader.read(reader.list())) == []
    assert list(reader.quarantined) == [segment.path]
    assert "24 records" in caplog.text
    assert (reader.list(), reader.has("cell-1")) == (set(), False)
    assert f"damaged/{segment.path}" in local.root.find("damaged")
    fill(local)
    assert len(reader.list()) == 24


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"segments": []}'])
def test_a_manifest_that_is_lost_or_damaged_is_made_again(local, content):
    before = everything(local)
    compact(local, least=1, now=NOW)
    compact(local, least=1, now=LATER)
    path = "segments/manifest.json"
    if content is None:
        local.root.delete(path)
    else:
        local.root.write(path, content)
    assert everything(local) == before
    fill(local, units=1, start=50)
    compact(local, least=1, now=LATER)
    assert everything(local).keys() == before.keys() | {
        name for name in local.list() if name.startswith("cell-50/")
    }
    assert local.root.find("segments")[path] > 100


def test_a_damaged_record_goes_into_no_segment(local):
    name = min(local.list())
    local.root.write(f"records/v1/{name}.jsonl", b"{}")
    assert compact(local, least=1, now=NOW).records == 23
    assert name not in local.list()


def test_readers_and_writers_and_two_compactors_at_once_lose_nothing(ledger):
    fill(ledger, units=6)
    names = ledger.list()
    errors = []

    def watch(function):
        try:
            function()
        except (StorageError, AssertionError, KeyError) as error:
            errors.append(error)

    def gather():
        for step in range(4):
            compact(Ledger(ledger.root), least=1, grace_seconds=0, now=NOW + step)

    def read():
        for _ in range(4):
            reader = Ledger(ledger.root)
            assert names <= reader.list()
            assert dict(reader.read(names)).keys() == names

    def write():
        fill(Ledger(ledger.root), units=4, start=100)

    work = [gather, read, write, read]
    threads = [threading.Thread(target=watch, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(everything(ledger)) == 20


def test_a_kill_at_any_moment_loses_nothing(tmp_path, in_child):
    flush = directory.flush
    draw = random.Random(0)
    root = Root.open(str(tmp_path / "root"))
    ledger = Ledger(root)
    fill(ledger, units=3)
    expected = everything(ledger)
    for moment in range(12):

        def killing(path, calls=iter(range(100)), moment=moment):  # noqa: B008
            if next(calls) == moment % 5:
                os._exit(9)
            flush(path)

        def child(killing=killing, moment=moment):
            directory.flush = killing
            compact(Ledger(root), least=1, now=NOW + moment * GRACE_SECONDS)

        in_child(child)
        assert everything(ledger) == expected
        fill(ledger, units=1, start=draw.randrange(10, 99))
        expected = everything(ledger) | expected
    assert ledger.loose() != ledger.list()


def test_a_manifest_of_another_version_is_refused_and_not_taken_for_a_damaged_one(
    local,
):
    compact(local, least=1, now=NOW)
    fields = {"version": 2, "parts": []}
    content = canonical_json({**fields, "digest": digest(fields)})
    local.root.write("segments/manifest.json", content.encode())
    with pytest.raises(StorageError, match=r"version 2, which .* the version that"):
        local.list()
