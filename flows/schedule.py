"""Run jobs as soon as what they read is done; a failure blocks only what depends on it.

A job is submitted to Prefect when it is ready and not before: one that waited inside
the task runner would hold a worker, and bounded workers that wait for one another
deadlock.
"""

import queue
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture

from mergegrid.errors import MergegridError
from tasks.progress import News, tell

SECONDS_BETWEEN_LOOKS = 1.0
"""How long to wait for news in one go, so that an interrupt is noticed."""


@dataclass(frozen=True)
class Job:
    """Something that is submitted as one Prefect task."""

    keys: tuple[str, ...]
    """Keys of what it makes."""

    after: frozenset[str]
    """Keys that must be made before, as far as other jobs make them."""

    submit: Callable[[], PrefectFuture[Any]] = field(hash=False)
    """Hands it to Prefect."""


@dataclass
class Outcome:
    """How jobs ended."""

    done: list[str] = field(default_factory=list)
    """Keys that were made or found."""

    failed: dict[str, BaseException] = field(default_factory=dict)
    """Keys that were not made, and why."""

    blocked: list[str] = field(default_factory=list)
    """Keys that were not tried, because something they read failed."""

    def add(self, other: "Outcome") -> None:
        """Take over how other jobs ended.

        Args:
            other: the other jobs' outcome.
        """
        self.done += other.done
        self.failed |= other.failed
        self.blocked += other.blocked


class StepsFailedError(MergegridError):
    """Some steps failed; the others were done and are kept."""

    def __init__(self, outcome: Outcome) -> None:
        first = next(iter(outcome.failed.values()), "What they read is missing.")
        blocked = f", {len(outcome.blocked)} waited for them" if outcome.blocked else ""
        super().__init__(
            f"{first} ({len(outcome.failed)} failed{blocked}; "
            f"{len(outcome.done)} done and kept.)"
        )
        self.outcome = outcome


def run_jobs(jobs: Sequence[Job], *, missing: Collection[str]) -> Outcome:
    """Run jobs, each after those that make what it reads.

    Args:
        jobs: in any order.
        missing: keys that do not exist yet; a job that reads one which no other job
            makes cannot run.

    Returns:
        How they ended; nothing is raised for a job that failed.
    """
    outcome = Outcome()
    made_here = {key for job in jobs for key in job.keys}
    never = set(missing) - made_here
    waiting = list(jobs)
    running = 0
    ended: queue.SimpleQueue[tuple[Job, PrefectFuture[Any]]] = queue.SimpleQueue()
    while waiting or running:
        lost = never | set(outcome.failed) | set(outcome.blocked)
        done = set(outcome.done)
        still_waiting: list[Job] = []
        for job in waiting:
            if job.after & lost:
                outcome.blocked += job.keys
            elif job.after & made_here <= done:
                _submit(job, ended)
                running += 1
            else:
                still_waiting.append(job)
        progressed = len(still_waiting) < len(waiting)
        waiting = still_waiting
        if running:
            job, future = _next(ended)
            running -= 1
            _settle(job, future, outcome)
        else:
            assert progressed or not waiting, "jobs wait for one another"
    return outcome


def _submit(
    job: Job, ended: "queue.SimpleQueue[tuple[Job, PrefectFuture[Any]]]"
) -> None:
    job.submit().add_done_callback(lambda future: ended.put((job, future)))


def _next(
    ended: "queue.SimpleQueue[tuple[Job, PrefectFuture[Any]]]",
) -> tuple[Job, PrefectFuture[Any]]:
    while True:
        try:
            return ended.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            continue


def _settle(job: Job, future: PrefectFuture[Any], outcome: Outcome) -> None:
    result = future.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        outcome.failed |= dict.fromkeys(job.keys, result)
        for key in job.keys:
            tell(News("failed", key))
    else:
        outcome.done += job.keys
