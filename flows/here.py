"""Jobs run side by side by the flow's task runner: in threads, or on a Dask cluster."""

import queue
from collections.abc import Collection, Sequence
from typing import Any

from prefect.futures import PrefectFuture

from flows.jobs import TASKS, Job
from flows.schedule import Outcome
from tasks.progress import News, tell
from tasks.workspace import Workspace

SECONDS_BETWEEN_LOOKS = 1.0
"""How long to wait for news in one go, so that an interrupt is noticed."""


class Here:
    """Runs jobs as Prefect tasks of the flow that runs now.

    Args:
        workspace: the experiment at its root.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._experiment = workspace.experiment.model_dump_json()
        self._root = workspace.root.url
        self._running = 0
        self._ended: queue.SimpleQueue[tuple[Job, PrefectFuture[Any]]] = (
            queue.SimpleQueue()
        )

    @property
    def busy(self) -> bool:
        """Whether anything that was started has not ended."""
        return self._running > 0

    def start(self, ready: Sequence[Job], later: Sequence[Job]) -> Collection[Job]:
        """Submit all jobs that can run now.

        Args:
            ready: those.
            later: jobs that have to wait.

        Returns:
            The jobs that were submitted.
        """
        del later
        for job in ready:
            self._running += 1
            self._submit(job)
        return ready

    def _submit(self, job: Job) -> None:
        future = TASKS[job.kind].submit(
            self._experiment, self._root, list(job.keys), job.label
        )
        future.add_done_callback(lambda ended: self._ended.put((job, ended)))

    def wait(self) -> Outcome:
        """Wait for a job to end, for a second at most.

        Returns:
            How it ended, if one did.
        """
        outcome = Outcome()
        try:
            job, future = self._ended.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            return outcome
        self._running -= 1
        result = future.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            outcome.failed |= dict.fromkeys(job.keys, result)
            for key in job.keys:
                tell(News("failed", key))
        else:
            outcome.done += job.keys
            for key in job.keys:  # told already, but for steps in other processes
                tell(News("done", key))
        return outcome
