import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from mergegrid.errors import StorageError
from storage.ledger import Ledger
from storage.root import Root

SCORE = {"table": "scores", "task": "digits/real", "value": 0.25, "options": {"a": 1}}


@pytest.fixture
def ledger(root):
    return Ledger(root)


@pytest.fixture
def local(tmp_path):
    return Ledger(Root.open(str(tmp_path / "root")))


def test_what_was_added_is_read_by_record_and_by_unit(ledger):
    first = ledger.append("cell-1", [SCORE, {"table": "costs", "flops": 10**18}])
    second = ledger.append("cell-1", [{"table": "cells"}])
    third = ledger.append("cell-10", [{"table": "cells"}])
    assert ledger.list() == {first, second, third}
    assert ledger.units() == {"cell-1", "cell-10"}
    assert ledger.has("cell-1")
    assert not ledger.has("cell-")
    assert ledger.recorded({"cell-10", "cell-", "cell-2"}) == {"cell-10"}
    records = dict(ledger.read({first, third}))
    assert records[first] == [
        {"schema_version": 1, **SCORE},
        {"schema_version": 1, "table": "costs", "flops": 10**18},
    ]
    assert set(records) == {first, third}
    tables = {row["table"] for row in ledger.rows("cell-1")}
    assert tables == {"scores", "costs", "cells"}
    assert ledger.rows("cell-2") == []


def test_saying_the_same_again_changes_nothing(ledger):
    rows = [{"table": "scores", "value": 1, "options": {"a": 2, "b": 3}}]
    same = [{"options": {"b": 3.0, "a": 2}, "value": 1.0, "table": "scores"}]
    assert ledger.append("cell-1", rows) == ledger.append("cell-1", same)
    assert len(ledger.list()) == 1


def test_writers_do_not_disturb_one_another(ledger):
    with ThreadPoolExecutor(8) as pool:
        names = set(
            pool.map(lambda i: ledger.append("cell-1", [{**SCORE, "i": i}]), range(40))
        )
    assert ledger.list() == names
    assert sorted(row["i"] for row in ledger.rows("cell-1")) == list(range(40))


def test_a_record_is_json_lines(ledger):
    name = ledger.append("cell-1", [SCORE, {"table": "cells", "schema_version": 1}])
    lines = ledger.root.read(f"records/v1/{name}.jsonl").splitlines()
    assert [json.loads(line)["table"] for line in lines] == ["scores", "cells"]


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda data: data[:-5],
        lambda data: data.replace(b"0.25", b"0.75"),
        lambda data: data + data,
    ],
)
def test_a_damaged_record_is_reported_set_aside_and_hides_no_other(
    ledger, caplog, change
):
    bad = ledger.append("cell-1", [SCORE])
    good = ledger.append("cell-2", [SCORE])
    path = f"records/v1/{bad}.jsonl"
    ledger.root.write(path, change(ledger.root.read(path)))
    assert [name for name, _ in ledger.read(ledger.list())] == [good]
    assert ledger.quarantined == {bad: "its content does not match its name"}
    assert bad in caplog.text
    assert ledger.list() == {good}
    assert set(ledger.root.find("damaged")) == {f"damaged/{path}"}
    assert ledger.append("cell-1", [SCORE]) == bad  # computed and recorded again
    assert ledger.list() == {good, bad}


def test_damage_on_the_way_is_no_damage_in_the_ledger(local, monkeypatch):
    name = local.append("cell-1", [SCORE])
    read, answers = local.root.read, [b"garbage"]
    monkeypatch.setattr(
        local.root, "read", lambda path: answers.pop() if answers else read(path)
    )
    assert [found for found, _ in local.read({name})] == [name]
    assert local.quarantined == {}


def test_a_record_that_vanished_is_left_out(local):
    name = local.append("cell-1", [SCORE])
    assert list(local.read({name, "cell-1/none"})) == [
        (name, [{"schema_version": 1, **SCORE}])
    ]


def test_a_ledger_can_be_pickled(local):
    name = local.append("cell-1", [SCORE])
    assert pickle.loads(pickle.dumps(local)).list() == {name}  # noqa: S301


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "rows that name their table"),
        ([{"value": 1}], "rows that name their table"),
        ([{"table": "scores", "value": float("nan")}], "nan"),
        ([{"table": "scores", "value": float("inf")}], "inf"),
    ],
)
def test_rows_that_cannot_be_recorded_are_refused(local, rows, match):
    with pytest.raises(ValueError, match=match):
        local.append("cell-1", rows)
    assert local.list() == set()


@pytest.mark.parametrize("unit", ["", "a/b", "..", ".a"])
def test_a_unit_that_cannot_name_a_folder_is_refused(local, unit):
    with pytest.raises(ValueError, match="cannot name a unit"):
        local.append(unit, [SCORE])


def test_a_ledger_that_cannot_be_written_is_one_line(local, in_child):
    def child():
        local.root.staging.rmdir()
        local.root.staging.write_bytes(b"")  # a file where the directory belongs
        with pytest.raises(StorageError, match=r"^Cannot write records/.*\.$"):
            local.append("cell-1", [SCORE])

    assert in_child(child) == 0


@pytest.mark.parametrize("version", ["v0", "v2", "v10"])
def test_a_ledger_of_another_layout_is_refused_and_not_taken_for_an_empty_one(
    local, version
):
    local.root.write(f"records/{version}/cell-1/abc.jsonl", b"{}")
    for act in (local.list, local.units):
        with pytest.raises(StorageError, match="the version that wrote it"):
            act()


def test_a_stray_file_is_no_ledger_of_another_layout(local):
    name = local.append("cell-1", [SCORE])
    local.root.write("records/.DS_Store", b"")
    assert local.list() == {name}
