"""What the Prefect UI shows of a run while it goes on: how far it is, the time left."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.jobs import Job
from tasks.progress import News, listening

SECONDS_BETWEEN_UPDATES = 3.0
"""An update costs a request of 20-35 ms."""


class Pace:
    """Says when something that is not to happen too often is due again.

    Args:
        seconds: the least time in between.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Ask whether enough time has passed since it was last due.

        Returns:
            Whether it has; if so, time starts anew.
        """
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True


class Bar:
    """A progress artifact of the run that goes on.

    Args:
        key: its key in the UI.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._artifact: UUID | None = None

    def show(self, share: float, text: str) -> None:
        """Create it, or bring it up to date.

        Args:
            share: how much is done, in [0, 1].
            text: what is done, for people.
        """
        if self._artifact is None:
            made = create_progress_artifact(100 * share, self._key, text)
            self._artifact = cast("UUID", made)
        else:
            update_progress_artifact(self._artifact, 100 * share, text)


class Story:
    """Counts the steps and cells that get done, weighted by what they take.

    Args:
        name: of the experiment.
        jobs: everything that is to be done.
    """

    def __init__(self, name: str, jobs: Sequence[Job]) -> None:
        self._bar = Bar(f"progress-{name.replace('_', '-')}")
        self._weights = {
            key: max(job.flops, 1) / len(job.keys) for job in jobs for key in job.keys
        }
        self._cells = {key for job in jobs if job.kind == "cell" for key in job.keys}
        self._done: set[str] = set()
        self._started = time.monotonic()
        self._pace = Pace(SECONDS_BETWEEN_UPDATES)

    @contextmanager
    def told(self) -> Generator[None]:
        """Follow the news while the block runs.

        Yields:
            Nothing.
        """
        with listening(self._hear):
            self._show()
            yield
        self._show()

    def update(self) -> None:
        """Show how far things are, if the last time was some seconds ago."""
        if self._pace.due():
            self._show()

    def _hear(self, news: News) -> None:
        if news.what == "done" and news.key in self._weights:
            self._done.add(news.key)

    def _show(self) -> None:
        if not self._weights:
            return
        done = set(self._done)
        share = sum(self._weights[key] for key in done) / sum(self._weights.values())
        self._bar.show(share, self._text(done, share))

    def _text(self, done: set[str], share: float) -> str:
        steps = len(self._weights) - len(self._cells)
        cells_done = len(done & self._cells)
        counts = [
            f"{part} of {whole} {what}"
            for what, part, whole in (
                ("steps", len(done) - cells_done, steps),
                ("cells", cells_done, len(self._cells)),
            )
            if whole
        ]
        elapsed = time.monotonic() - self._started
        left = f"; about {duration(elapsed / share - elapsed)} left" if share else ""
        return ", ".join(counts) + left * (share < 1)


def duration(seconds: float) -> str:
    """Write a time for a person.

    Args:
        seconds: how long it is.

    Returns:
        The text, such as `12 s`, `5 min`, `3.2 h`.
    """
    minute, hour = 60, 3600
    if seconds < 2 * minute:
        return f"{seconds:.0f} s"
    if seconds < 2 * hour:
        return f"{seconds / minute:.0f} min"
    return f"{seconds / hour:.1f} h"
