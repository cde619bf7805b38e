"""What every flow over an experiment does: plan, make what is missing, in order."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar, cast

import torch
from prefect import Flow, flow
from prefect.exceptions import TerminationSignal
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.here import Here
from flows.jobs import make_jobs_beside
from flows.plan import Plan, make_plan
from flows.pool import Pool
from flows.schedule import Outcome, StepsFailedError, run_jobs
from flows.story import Story
from mergegrid.errors import MergegridError
from mergegrid.experiment import Experiment
from storage.claims import using
from tasks.progress import stop
from tasks.workspace import Workspace, open_workspace

DEFAULT_ROOT = os.environ.get("MERGEGRID_ROOT", "mergegrid-data")
"""Where artifacts and results live unless a flow is told otherwise."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def devices() -> int:
    """Count what a worker has to compute with.

    Returns:
        Its GPUs; 1 without any, for there is a worker for each core then.
    """
    return torch.cuda.device_count() if torch.cuda.is_available() else 1


def side_by_side() -> int:
    """Count the steps that run side by side in a process that has the machine.

    Returns:
        One for each GPU, or for each core without any.
    """
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return os.cpu_count() or 1


def flow_of(
    name: str,
    *,
    workers: int | None = None,
    run_name: str | Callable[[], str] | None = None,
) -> Callable[[Callable[_Parameters, _Result]], Flow[_Parameters, _Result]]:
    """Turn a function into a flow that runs steps side by side in this process.

    Threads are enough: steps spend their time in PyTorch, outside Python's lock. What a
    user can mend ends the run as failed, with that one line as its message.

    Args:
        name: the flow's name.
        workers: how many steps run side by side; one for each device or core by
            default.
        run_name: a template of its runs' names over its parameters, or a function.

    Returns:
        A decorator.
    """

    def decorate(
        function: Callable[_Parameters, _Result],
    ) -> Flow[_Parameters, _Result]:
        return flow(
            name=name,
            flow_run_name=run_name,
            task_runner=cast(
                "Any", ThreadPoolTaskRunner(max_workers=workers or side_by_side())
            ),
            persist_result=False,
        )(function)

    return decorate


def refused(error: MergegridError) -> Outcome:
    """End a flow with what a user can mend: one line and no traceback.

    Args:
        error: what is wrong.

    Returns:
        The state for the flow to return.
    """
    # Prefect takes a state for an answer, whatever the flow returns otherwise.
    return cast("Outcome", Failed(data=error, message=str(error)))


SECONDS_TO_END = 3.0
"""After a termination: time to say so to Prefect. Nothing is half-written ever, so
there is nothing to wait for; Prefect itself would wait for 30 s."""


@contextmanager
def stoppable() -> Generator[None]:
    """Let a cancelled run's steps end at their next piece of news, or soon after.

    Yields:
        Nothing.

    Raises:
        KeyboardInterrupt: if there was one.
        TerminationSignal: likewise, from Prefect.
    """
    try:
        yield
    except KeyboardInterrupt:
        stop()
        raise
    except TerminationSignal:
        stop()
        end = threading.Timer(SECONDS_TO_END, os._exit, [128 + signal.SIGTERM])
        end.daemon = True
        end.start()
        raise


def workspace_of(experiment: Experiment, root: str) -> Workspace:
    """Open the workspace that Prefect tasks of this process will find again.

    Args:
        experiment: the experiment.
        root: a directory or `s3://bucket/prefix`.

    Returns:
        The workspace.
    """
    # The library's log is the run's; Prefect's own setting leaves the level alone.
    logging.getLogger("mergegrid").setLevel(logging.INFO)
    return open_workspace(experiment.model_dump_json(), root)


def run_plan(plan: Plan, kinds: Collection[str], deployment: str = "") -> Outcome:
    """Make everything of some kinds that is missing.

    Args:
        plan: what is missing.
        kinds: the kinds of steps that are wanted.
        deployment: what all but cheap steps are handed to; empty: this process.

    Returns:
        How the steps ended.
    """
    here = Here(plan.workspace)
    pool = Pool(plan.workspace, deployment, here) if deployment else None
    jobs = make_jobs_beside(plan, kinds, pool.shares if pool else [])
    story = Story(plan.workspace.experiment.name, jobs)
    with story.told(), stoppable(), pool or nullcontext():
        return run_jobs(
            jobs,
            pool or here,
            missing=plan.missing | plan.unscored,
            each_round=story.update,
        )


def run_stage(
    experiment: Experiment, root: str, kinds: Collection[str], deployment: str = ""
) -> Outcome:
    """Make what is missing of some kinds of steps.

    Args:
        experiment: the experiment.
        root: where artifacts live.
        kinds: the kinds.
        deployment: see `run_plan`.

    Returns:
        How the steps ended.

    Raises:
        StepsFailedError: if any failed; the others are done and kept.
    """
    workspace = workspace_of(experiment, root)
    with using(workspace.root, workspace.steps.artifacts):
        return finished(run_plan(make_plan(workspace), kinds, deployment))


def finished(outcome: Outcome) -> Outcome:
    """End a flow.

    Args:
        outcome: how its jobs ended.

    Returns:
        The same, if all is well.

    Raises:
        StepsFailedError: if any failed.
    """
    if outcome.failed or outcome.blocked:
        raise StepsFailedError(outcome)
    return outcome
