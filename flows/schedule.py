"""Run jobs as soon as what they read is done; a failure blocks only what depends on it.

A job is handed to an executor when it is ready and not before: one that waited inside
a task runner or a work pool would hold a worker, and bounded workers that wait for one
another deadlock.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flows.jobs import Job
from mergegrid.errors import MergegridError


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


class Executor(Protocol):
    """Where jobs run."""

    @property
    def busy(self) -> bool:
        """Whether anything that was started has not ended."""
        ...

    def start(self, ready: Sequence[Job], later: Sequence[Job]) -> Collection[Job]:
        """Start jobs.

        Args:
            ready: jobs that can run now.
            later: jobs that wait for others; they may be started together with all
                that they wait for.

        Returns:
            Those that were started; the others are offered again.
        """
        ...

    def wait(self) -> Outcome:
        """Wait for jobs to end, for about a second at most.

        Returns:
            How those ended that did.
        """
        ...


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    *,
    missing: Collection[str],
    each_round: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run jobs, each after those that make what it reads.

    Args:
        jobs: in any order.
        executor: where they run.
        missing: keys that do not exist yet; a job that reads one which no other job
            makes cannot run.
        each_round: called about once a second.

    Returns:
        How they ended; nothing is raised for a job that failed.
    """
    outcome = Outcome()
    made_here = {key for job in jobs for key in job.keys}
    never = set(missing) - made_here
    waiting = list(jobs)
    while waiting or executor.busy:
        lost = never | set(outcome.failed) | set(outcome.blocked)
        done = set(outcome.done)
        ready: list[Job] = []
        later: list[Job] = []
        blocked: set[Job] = set()
        for job in waiting:
            if job.after & lost:
                outcome.blocked += job.keys
                blocked.add(job)
            else:
                (ready if job.after & made_here <= done else later).append(job)
        started = set(executor.start(ready, later))
        waiting = [job for job in waiting if job not in started | blocked]
        if executor.busy:
            outcome.add(executor.wait())
        else:
            assert started or blocked or not waiting, "jobs wait for one another"
        each_round()
    return outcome
