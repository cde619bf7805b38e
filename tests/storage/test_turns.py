import threading
import time

import pytest

from storage import notes, turns
from storage.root import Root
from storage.turns import turn


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(turns, "LOOKS", 0.02)


@pytest.fixture
def root(tmp_path):
    return Root.open(str(tmp_path / "root"))


class Log:
    """Who did what, and who was at work at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.at_work = []
        self.together = set()
        self.done = []

    def work(self, root, name, keys):
        with turn(root, keys):
            with self.lock:
                self.together |= {frozenset((name, other)) for other in self.at_work}
                self.at_work.append(name)
            time.sleep(0.1)
            with self.lock:
                self.at_work.remove(name)
                self.done.append(name)


def run(root, *work):
    log = Log()
    threads = [
        threading.Thread(target=log.work, args=(root, name, keys))
        for name, keys in work
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(log.done) == sorted(name for name, _ in work)
    return log.together


def test_steps_with_a_key_in_common_are_done_one_after_the_other(root):
    work = [("one", {"a", "b"}), ("two", {"b", "c"}), ("three", {"a", "b", "c"})]
    assert run(root, *work) == set()


def test_other_steps_are_done_at_the_same_time(root):
    started = threading.Barrier(2, timeout=20)

    def work(key):
        with turn(root, {key}):
            started.wait()  # breaks if one has to wait for the other

    threads = [threading.Thread(target=work, args=(key,)) for key in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not started.broken


def test_a_turn_leaves_no_note_whatever_happens_in_it(root):
    def fail():
        with turn(root, {"a"}):
            assert root.find(turns.FOLDER)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert not root.find(turns.FOLDER)


def test_the_note_of_a_process_that_was_killed_keeps_nobody_waiting(root, monkeypatch):
    dead = notes.Note(root, f"{turns.FOLDER}/doing", {"a"}, refreshes=1000)
    dead.write()
    monkeypatch.setattr(turns, "EXPIRES", 0.3)
    started = time.monotonic()
    with turn(root, {"a"}):
        waited = time.monotonic() - started
    assert waited > 0.2


def test_a_note_that_is_kept_fresh_does_not_expire(root, monkeypatch):
    monkeypatch.setattr(turns, "EXPIRES", 0.4)
    alive = notes.Note(root, f"{turns.FOLDER}/doing", {"a"}, refreshes=0.05)
    entered = threading.Event()

    def follow():
        with turn(root, {"a"}):
            entered.set()

    with alive.kept():
        thread = threading.Thread(target=follow)
        thread.start()
        assert not entered.wait(1.0)
    assert entered.wait(20)
    thread.join()
