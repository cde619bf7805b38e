import threading
import time

import pytest

from dashboards.app.follow import Follower
from mergegrid.errors import ResultsError

SECONDS = 10


class Database:
    """Results that change when they are told to."""

    def __init__(self, path):
        self.path = path
        self.refreshes = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.error = None

    def refresh(self):
        self.go_on.wait(SECONDS)
        self.refreshes += 1
        if self.error is not None:
            raise self.error
        self.path.write_text(str(self.refreshes))


@pytest.fixture
def database(tmp_path, monkeypatch):
    monkeypatch.setattr("dashboards.app.follow.SECONDS", 0)
    monkeypatch.setattr("dashboards.app.follow.REST", 0)
    return Database(tmp_path / "results.duckdb")


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_the_first_look_is_waited_for(database):
    assert Follower(database, "root").version()
    assert database.refreshes == 1


def test_a_new_database_is_another_version(database):
    follower = Follower(database, "root")
    first = follower.version()
    until(lambda: follower.version() != first)


def test_pages_do_not_wait_for_later_looks(database):
    follower = Follower(database, "root")
    follower.version()
    database.go_on.clear()
    for _ in range(3):
        assert follower.version()
    assert database.refreshes == 1  # the second look still waits to go on
    database.go_on.set()
    until(lambda: database.refreshes == 2)


def test_the_ledger_is_left_in_peace_between_looks(database, monkeypatch):
    monkeypatch.setattr("dashboards.app.follow.SECONDS", 3600)
    follower = Follower(database, "root")
    for _ in range(5):
        follower.version()
    assert database.refreshes == 1


def test_what_a_user_can_mend_is_told_until_it_is_mended(database):
    follower = Follower(database, "root")
    version = follower.version()
    database.error = ResultsError("The disk is full.")
    until(lambda: follower.version() and follower.problem == "The disk is full.")
    assert follower.version() == version
    database.error = None
    until(lambda: follower.version() != version)
    assert follower.problem is None


def test_a_bug_is_raised_where_a_page_shows_it(database):
    follower = Follower(database, "root")
    follower.version()
    database.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        until(lambda: follower.version() is None)


def test_without_a_database_there_is_no_version(database):
    database.error = ResultsError("There is nothing.")
    assert not Follower(database, "root").version()
