"""What every flow does: open the workspace, turn missing steps into jobs, run them."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from prefect import Flow, flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.plan import Plan, make_plan
from flows.schedule import Job, Outcome, StepsFailedError, run_jobs
from mergegrid.experiment import Experiment
from mergegrid.steps import Scored
from tasks.step import WorkTask
from tasks.workspace import Workspace, open_workspace

DEFAULT_ROOT = os.environ.get("MERGEGRID_ROOT", "mergegrid-data")
"""Where artifacts and results live unless a flow is told otherwise."""

OurFlow: TypeAlias = Flow[[Experiment, str], Outcome]
"""A flow that takes an experiment and a root."""

Tasks = Mapping[str, WorkTask]
"""Kind of step to the Prefect task that computes it."""


def workers() -> int:
    """Count the steps that run side by side in one process.

    Returns:
        One for each GPU, or for each core without any.
    """
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return os.cpu_count() or 1


def flow_of(
    name: str, *, run_name: str
) -> Callable[[Callable[[Experiment, str], Outcome]], OurFlow]:
    """Turn a function into a flow that runs steps side by side in this process.

    Threads are enough: steps spend their time in PyTorch, outside Python's lock.

    Args:
        name: the flow's name.
        run_name: a template of its runs' names, over its parameters.

    Returns:
        A decorator.
    """

    def decorate(function: Callable[[Experiment, str], Outcome]) -> OurFlow:
        return flow(
            name=name,
            flow_run_name=run_name,
            task_runner=cast("Any", ThreadPoolTaskRunner(max_workers=workers())),
            persist_result=False,
        )(function)

    return decorate


def workspace_of(experiment: Experiment, root: str) -> Workspace:
    """Open the workspace that Prefect tasks of this process will find again.

    Args:
        experiment: the experiment.
        root: a directory or `s3://bucket/prefix`.

    Returns:
        The workspace.
    """
    return open_workspace(experiment.model_dump_json(), root)


def submitter(
    workspace: Workspace, task: WorkTask, keys: Sequence[str], label: str
) -> Callable[[], Any]:
    """Prepare to hand a Prefect task to the task runner.

    Args:
        workspace: the experiment at its root.
        task: the Prefect task.
        keys: what it is to make.
        label: what that is, for people.

    Returns:
        A function that submits it.
    """
    document = workspace.experiment.model_dump_json()
    return lambda: task.submit(document, workspace.root.url, list(keys), label)


def step_jobs(plan: Plan, tasks: Tasks) -> list[Job]:
    """Turn the missing steps of some kinds into jobs.

    Args:
        plan: what is missing.
        tasks: the kinds.

    Returns:
        A job for each step, kind by kind.
    """
    return [
        Job(
            keys=(step.key,),
            after=frozenset(step.parents),
            submit=submitter(plan.workspace, task, [step.key], step.label),
        )
        for kind, task in tasks.items()
        for step in plan.steps(kind)
    ]


def score_job(plan: Plan, task: WorkTask, entries: Sequence[Scored], label: str) -> Job:
    """Turn cells or models for reference into one job.

    Args:
        plan: what is missing.
        task: the Prefect task that scores them.
        entries: what to score.
        label: what that is, for people.

    Returns:
        The job, which waits for everything that any of them reads.
    """
    keys = [entry.step.key for entry in entries]
    return Job(
        keys=tuple(keys),
        after=frozenset(key for entry in entries for key in entry.step.parents),
        submit=submitter(plan.workspace, task, keys, label),
    )


def run_steps(experiment: Experiment, root: str, tasks: Tasks) -> Outcome:
    """Make what is missing of some kinds of steps.

    Args:
        experiment: the experiment.
        root: where artifacts live.
        tasks: the kinds.

    Returns:
        How the steps ended.

    Raises:
        StepsFailedError: if any failed; the others are done and kept.
    """
    plan = make_plan(workspace_of(experiment, root))
    return finished(run_jobs(step_jobs(plan, tasks), missing=plan.missing))


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


def subflow(inner: OurFlow, plan: Plan) -> Outcome:
    """Run a flow inside another, and go on whatever becomes of it.

    Args:
        inner: the flow.
        plan: whose experiment and root it is run with.

    Returns:
        How its jobs ended.
    """
    workspace = plan.workspace
    state = inner(workspace.experiment, workspace.root.url, return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, StepsFailedError):
        return result.outcome
    if isinstance(result, BaseException):
        raise result
    return result
