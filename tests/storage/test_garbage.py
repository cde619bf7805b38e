"""What is swept, what is kept, and what happens when grids run meanwhile."""

import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest

from mergegrid.errors import StorageError
from storage import claims, directory, garbage
from storage.artifacts import ArtifactStore
from storage.claims import removing, used_now, using
from storage.garbage import find_garbage, sweep
from storage.root import Root
from storage.turns import turn

AT_ONCE = -10.0
"""A grace period that is over before it begins."""

LATER = 1e12


@pytest.fixture
def local(tmp_path):
    return Root.open(str(tmp_path / "root"))


def make(root, *keys, text="1"):
    store = ArtifactStore(root)
    for key in keys:
        with store.write(key, "step", 1, {}, {}) as draft:
            (draft / "payload").write_text(text)


def kept(root):
    return ArtifactStore(root).keys()


def swept(root, *needed, grace=AT_ONCE):
    return list(sweep(root, lambda: set(needed), grace=grace))


@contextmanager
def cut_off_uploads(monkeypatch, root, *keys):
    begun = {(f"artifacts/{key}/content/payload", f"upload-{key}"): 0 for key in keys}
    with monkeypatch.context() as patched:
        patched.setattr(root, "uploads", lambda: dict(begun))
        patched.setattr(root, "abort", lambda *upload: begun.pop(upload))
        yield begun


def test_what_nothing_needs_is_listed_and_removed_and_nothing_else(root):
    make(root, "a-v1-1", "a-v1-2", "a-v1-3")
    root.write("records/v1/cell-1/x.jsonl", b"{}")
    root.write("results.duckdb", b"")
    listed = find_garbage(root, {"a-v1-2"}, set(), now=LATER, grace=0)
    assert [part.path for part in listed] == ["artifacts/a-v1-1", "artifacts/a-v1-3"]
    assert {part.reason for part in listed} == {garbage.UNNEEDED}
    assert kept(root) == {"a-v1-1", "a-v1-2", "a-v1-3"}
    sizes = root.find()
    removed = swept(root, "a-v1-2")
    assert [part.path for part in removed] == [part.path for part in listed]
    assert sum(part.size for part in removed) == sum(
        size for path, size in sizes.items() if "a-v1-1" in path or "a-v1-3" in path
    )
    assert kept(root) == {"a-v1-2"}
    assert {path.partition("/")[0] for path in root.find()} == {
        "artifacts",
        "records",
        "results.duckdb",
    }


def test_what_is_younger_than_the_grace_period_stays(local):
    make(local, "a-v1-1")
    local.write("damaged/a-v1-2/manifest.json", b"")
    assert swept(local, grace=3600) == []
    assert kept(local) == {"a-v1-1"}
    assert len(swept(local)) == 2


def test_what_killed_and_slower_writers_left_goes_and_the_artifact_stays(local):
    make(local, "a-v1-1", "a-v1-2")
    local.write("artifacts/a-v1-1/other-content/payload", b"slower")
    local.write("artifacts/a-v1-3/content/payload", b"killed")
    removed = swept(local, "a-v1-1", "a-v1-2", "a-v1-3")
    assert {part.path: part.reason for part in removed} == {
        "artifacts/a-v1-1/other-content": garbage.UNLISTED,
        "artifacts/a-v1-3/content": garbage.UNLISTED,
    }
    assert list(ArtifactStore(local).verify()) == [("a-v1-1", None), ("a-v1-2", None)]


def test_an_artifact_that_is_damaged_is_left_for_verify_to_say(local):
    make(local, "a-v1-1")
    local.write("artifacts/a-v1-1/other-content/payload", b"slower")
    local.write("artifacts/a-v1-1/manifest.json", b"{")
    assert swept(local, "a-v1-1") == []


def test_uploads_that_were_cut_off_are_given_up_unless_their_artifact_is_in_use(
    local, monkeypatch
):
    with cut_off_uploads(monkeypatch, local, "a-v1-1", "a-v1-2") as begun:
        with using(local, {"a-v1-2"}):
            (removed,) = swept(local, "a-v1-1")
        assert removed.reason == garbage.CUT_OFF
        assert [upload for _, upload in begun] == ["upload-a-v1-2"]


def test_what_a_running_grid_uses_stays_until_it_has_ended(root):
    make(root, "a-v1-1", "a-v1-2")
    root.write("artifacts/a-v1-3/content/payload", b"being written")
    with using(root, {"a-v1-1", "a-v1-3"}):
        assert used_now(root) == {"a-v1-1", "a-v1-3"}
        assert [part.key for part in swept(root)] == ["a-v1-2"]
    assert used_now(root) == set()
    assert {part.key for part in swept(root)} == {"a-v1-1", "a-v1-3"}


def test_a_grid_that_was_killed_counts_until_its_note_expires(local, monkeypatch):
    make(local, "a-v1-1")
    with monkeypatch.context() as patched:
        patched.setattr(Root, "delete", lambda _root, _path: None)
        with using(local, {"a-v1-1"}), turn(local, {"a-v1-1"}):
            pass
    assert swept(local) == []
    times = Root.times

    def long_ago(self, prefix=""):
        found = times(self, prefix)
        killed = ("claims/uses-", "turns/")
        return {path: t - 4000 * path.startswith(killed) for path, t in found.items()}

    monkeypatch.setattr(Root, "times", long_ago)
    assert {part.reason for part in swept(local)} == {garbage.UNNEEDED, garbage.LEFT}
    assert local.find() == {}


def test_a_note_is_written_again_for_as_long_as_a_grid_runs(local, monkeypatch):
    written, twice = [], threading.Event()
    write = Root.write

    def counting(self, path, data):
        write(self, path, data)
        written.append(path)
        if len(written) > 2:
            twice.set()

    monkeypatch.setattr(Root, "write", counting)
    monkeypatch.setattr(claims, "REFRESHES", 0.01)
    with using(local, {"a-v1-1"}):
        assert twice.wait(10)
    assert len(set(written)) == 1
    assert local.find("claims") == {}


def test_a_note_that_cannot_be_read_stops_the_removal(local):
    make(local, "a-v1-1")
    for content in (b"", b"[]", b'{"keys": 1}'):
        local.write("claims/uses-1.json", content)
        with pytest.raises(StorageError, match=r"claims/uses-1\.json cannot be read"):
            swept(local)
    assert kept(local) == {"a-v1-1"}


def test_a_removal_that_was_held_up_for_too_long_stops_by_itself(local, monkeypatch):
    make(local, "a-v1-1")
    monkeypatch.setenv("MERGEGRID_PATIENCE", "3600")
    with pytest.raises(StorageError, match="with a MERGEGRID_PATIENCE well below 3600"):
        swept(local)
    assert kept(local) == {"a-v1-1"}


def test_a_grid_that_ended_meanwhile_has_recorded_what_it_used(local):
    make(local, "a-v1-1")
    recorded = []

    def needed():
        asked = set(recorded)
        recorded.append("a-v1-1")  # between marking and sweeping
        return asked

    assert list(sweep(local, needed, grace=AT_ONCE)) == []
    assert kept(local) == {"a-v1-1"}


def test_a_grid_that_begins_after_marking_and_ends_while_records_are_read_is_seen(
    local, monkeypatch
):
    make(local, "a-v1-1")
    with ExitStack() as grid:

        def begin():  # as late as marking allows
            if not used_now(local):
                grid.enter_context(using(local, {"a-v1-1"}))
            return {}

        def needed():
            if used_now(local):
                grid.close()  # it has recorded what it used, too late for this answer
                monkeypatch.setattr(local, "uploads", dict)
            return set()

        monkeypatch.setattr(local, "uploads", begin)
        assert list(sweep(local, needed, grace=AT_ONCE)) == []
    assert used_now(local) == set()
    assert kept(local) == {"a-v1-1"}


def test_a_grid_waits_for_a_removal_that_concerns_it_and_for_no_other(
    root, monkeypatch, caplog
):
    monkeypatch.setattr(claims, "LOOKS", 0.01)
    began = threading.Event()

    def run():
        with using(Root(root.url), {"a-v1-1"}):
            began.set()

    waiting = threading.Thread(target=run)
    with removing(root, {"a-v1-1"}):
        with using(root, {"a-v1-2"}):
            pass
        waiting.start()
        while not caplog.messages:
            time.sleep(0.01)
        assert not began.wait(0.05)
    waiting.join()
    assert began.is_set()
    (message,) = caplog.messages
    assert message.startswith("Waiting for a removal of artifacts")


class Turns:
    """Lets threads take turns at every request to the storage, as a schedule says."""

    def __init__(self, schedule):
        self._schedule = list(schedule)
        self._changed = threading.Condition()
        self._waiting = dict.fromkeys("rg", 0)
        self._alive = set("rg")
        self._turn = None
        self.taken = Counter()
        self.errors = []

    def root(self, name, url):
        root = Root(url)
        root._patience.call = lambda operation: self._take(name, operation)
        return root

    def _take(self, name, operation):
        with self._changed:
            self._waiting[name] += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._turn == name)
            self._waiting[name] -= 1
            self._turn = "taken"
            self.taken[name] += 1
        try:
            return operation()
        finally:
            with self._changed:
                self._turn = None
                self._changed.notify_all()

    def play(self, **parts):
        threads = [
            threading.Thread(target=self._run, args=(name, part))
            for name, part in parts.items()
        ]
        for thread in threads:
            thread.start()
        last = "g"
        while self._alive:
            with self._changed:
                self._changed.wait_for(self._is_settled)
                ready = sorted(self._alive)
                if not ready:
                    break
                wanted = self._schedule.pop(0) if self._schedule else "rg"[last == "r"]
                last = self._turn = wanted if wanted in ready else ready[0]
                self._changed.notify_all()
        for thread in threads:
            thread.join()

    def _is_settled(self):
        return self._turn is None and all(self._waiting[n] for n in self._alive)

    def _run(self, name, part):
        try:
            part()
        except BaseException as error:
            self.errors.append(error)
        finally:
            with self._changed:
                self._alive.discard(name)
                self._changed.notify_all()


def grid_and_collector(url, schedule):
    """A grid and a collector at one root, interrupting each other at given points."""
    make(Root.open(url), "old-v1-1", "needless-v1-1")
    turns = Turns(schedule)
    recorded = set()

    def grid():
        root = turns.root("r", url)
        wanted = {"old-v1-1", "new-v1-1"}
        with using(root, wanted):
            store = ArtifactStore(root)
            missing = store.missing(wanted)
            root.find("records")  # some time passes
            for key in sorted(wanted - missing):
                assert (store.path(key) / "payload").read_text() == "1"
            make(root, *sorted(missing))
            recorded.update(wanted)
            root.find("records")

    def needed():
        turns.root("g", url).find("records")
        return set(recorded)

    def collector():
        list(sweep(turns.root("g", url), needed, grace=AT_ONCE))

    turns.play(r=grid, g=collector)
    assert turns.errors == [], schedule
    assert kept(Root(url)) == recorded, schedule
    assert not ArtifactStore(Root(url)).missing(recorded), schedule
    return turns.taken


@pytest.mark.parametrize(("first", "second"), ["gr", "rg"])
def test_no_order_of_events_removes_what_a_grid_has_found_or_made(
    tmp_path, monkeypatch, first, second
):
    monkeypatch.setattr(claims, "LOOKS", 0.0)
    monkeypatch.setattr(directory, "flush", lambda _: None)
    alone = grid_and_collector(str(tmp_path / "alone"), "g" * 100)
    for before in range(alone[first]):
        for during in range(1, alone[second]):
            schedule = first * before + second * during + first * 100
            grid_and_collector(str(tmp_path / f"{before}-{during}"), schedule)
