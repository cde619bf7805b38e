"""The results, followed while a grid writes to them.

The database is brought up to date from the ledger beside the pages, in a thread, so
that no page waits for it; a page that sees a new database draws itself anew.
"""

import os
import threading
import time
from datetime import UTC, datetime

import streamlit as st

from mergegrid.errors import MergegridError
from storage.ledger import Ledger
from storage.results import Results
from storage.root import Root

SECONDS = 5.0
"""At least, between two looks at the ledger."""

REST = 5.0
"""A look at the ledger is followed by so many times its own duration of rest."""


class Follower:
    """Keeps a results database up to date while somebody looks.

    Args:
        results: the database.
        root: what it is about, for people.
    """

    results: Results
    """The database."""

    root: str
    """What it is about, for people."""

    problem: str | None
    """Why the last look at the ledger failed, if it did."""

    seen: datetime | None
    """When the ledger was last read."""

    def __init__(self, results: Results, root: str) -> None:
        self.results = results
        self.root = root
        self.problem = None
        self.seen = None
        self._bug: Exception | None = None
        self._lock = threading.Lock()
        self._due = 0.0

    def version(self) -> str:
        """Say which database there is now; look at the ledger, if it is time.

        The first look is waited for.

        Returns:
            What changes with the database; empty without one.
        """
        is_first = not self._due
        if time.monotonic() >= self._due and self._lock.acquire(blocking=False):
            if is_first:
                self._look()
            else:
                threading.Thread(target=self._look, daemon=True).start()
        if self._bug is not None:
            raise self._bug
        try:
            found = self.results.path.stat()
        except FileNotFoundError:
            return ""
        return f"{found.st_mtime_ns}-{found.st_ino}"

    def _look(self) -> None:
        started = time.monotonic()
        try:
            self.results.refresh()
            self.problem = None
            self.seen = datetime.now(UTC)
        except MergegridError as error:
            self.problem = str(error)
        except Exception as error:
            self._bug = error
        finally:
            now = time.monotonic()
            self._due = now + max(SECONDS, REST * (now - started))
            self._lock.release()


@st.cache_resource(show_spinner="Reading the results ...")
def _follower(root: str) -> Follower:
    place = Root.open(root, create=False)
    return Follower(Results(place, Ledger(place)), place.url)


def follower() -> Follower:
    """Find what follows the root that `MERGEGRID_ROOT` names.

    Returns:
        One for all pages of all visitors.
    """
    return _follower(os.environ["MERGEGRID_ROOT"])
