"""Waiting for storage that is away: a server that restarts, a network that is cut.

A grid does not fail because its bucket cannot be reached for a while. Every operation
is tried again, at growing intervals, for as long as patience lasts; then it fails in
one line, and the next run goes on from what has been stored.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mergegrid.errors import InputError
from storage.faults import may_pass, reason

PATIENCE = "MERGEGRID_PATIENCE"
"""Environment variable: for how many seconds to wait for storage that is away."""

SECONDS = 900.0
"""How long, unless the environment says otherwise: longer than a server's restart."""

SHORTEST_WAIT = 0.2
LONGEST_WAIT = 10.0
"""Seconds between two attempts: the wait doubles from the one to the other."""

_T = TypeVar("_T")
_LOG = logging.getLogger("mergegrid")
_ended = threading.Event()


def end_waiting() -> None:
    """Make every wait of this process end now, with the error that it waits out."""
    _ended.set()


class Patience:
    """Tries operations again while the cause of their failure can pass.

    All threads share one, so that an outage is reported once and not by each.

    Args:
        name: what is waited for, in messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._away_since: float | None = None

    def call(self, operation: Callable[[], _T]) -> _T:
        """Do something, again and again where it has to be.

        Args:
            operation: what to do; doing it twice must be the same as doing it once.

        Returns:
            What it returns.

        Raises:
            OSError: what it raised last, if that cannot pass or patience is at its end.
        """
        end = time.monotonic() + seconds()
        wait = SHORTEST_WAIT
        while True:
            try:
                result = operation()
            except OSError as error:
                if not may_pass(error) or time.monotonic() + wait > end:
                    raise
                self._report(error)
                # Not all at once: many clients wait for the same server.
                if _ended.wait(wait * random.uniform(0.5, 1)):
                    raise
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                self._report_end()
                return result

    def _report(self, error: OSError) -> None:
        with self._lock:
            if self._away_since is not None:
                return
            self._away_since = time.monotonic()
        _LOG.warning(
            "Waiting for %s, up to %.0f s: %s.", self._name, seconds(), reason(error)
        )

    def _report_end(self) -> None:
        with self._lock:
            since, self._away_since = self._away_since, None
        if since is not None:
            away = time.monotonic() - since
            _LOG.warning("%s answers again, after %.0f s.", self._name, away)


def seconds() -> float:
    """Say how long to wait for storage that is away.

    Returns:
        The number in the environment, or `SECONDS`.

    Raises:
        InputError: if what the environment says is no number of seconds.
    """
    text = os.environ.get(PATIENCE)
    if text is None:
        return SECONDS
    try:
        given = float(text)
    except ValueError:
        given = -1.0
    if not 0 <= given < float("inf"):
        raise InputError(f"{PATIENCE} is {text!r}; give a number of seconds.")
    return given
