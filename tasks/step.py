"""How work becomes a Prefect task: compute into a staging folder, store, record.

A Prefect task is handed plain text - the experiment, the root, keys - and returns
nothing but a state that says whether things were made or found. Whether a step is done
is decided by the artifact store and the ledger alone; Prefect's own caching is off.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed

from mergegrid.costs import measure_cost
from mergegrid.errors import MergegridError
from mergegrid.provenance import provenance
from mergegrid.steps import Step
from mergegrid.suites.suite import Progress
from storage.turns import turn
from tasks.learned_rows import learned_rows
from tasks.profile_rows import payload_rows
from tasks.progress import News, tell
from tasks.record import artifact_rows
from tasks.workspace import Workspace, open_workspace

SECONDS_BEFORE_RETRY = 2.0

HEAVY = "gpu"
"""Tag of Prefect tasks that want a device of their own; a server may limit how many
run at once, over all runs."""

Compute = Callable[[Workspace, Step, Path, Progress], Mapping[str, Any]]
"""Computes one step: writes payloads into a directory and returns what of its cost
differs from the estimate."""

Work = Callable[[Workspace, list[str]], bool]
"""Does what some keys stand for; says whether anything had to be done."""

WorkTask = Task[[str, str, list[str], str], State[Any]]
"""A Prefect task that takes the experiment, the root, keys and a label."""


def can_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Decide whether a failure is worth another try.

    Args:
        state: how the Prefect task ended.

    Returns:
        False for what a user has to mend and for plain bugs in values, which would
        fail again; True otherwise: a busy disk, network or device.
    """
    return not isinstance(state.data, MergegridError | ValueError | TypeError)


def work_task(
    name: str, work: Work, *, retries: int = 0, heavy: bool = True
) -> WorkTask:
    """Make a Prefect task.

    Args:
        name: its name.
        work: what it does.
        retries: how often a failure that can pass is tried again.
        heavy: whether it wants a device of its own.

    Returns:
        The Prefect task.
    """

    @task(
        name=name,
        task_run_name=f"{name} {{label}}",
        tags=[HEAVY] * heavy,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries,
        retry_delay_seconds=SECONDS_BEFORE_RETRY,
        retry_condition_fn=can_pass,
    )
    def run(experiment: str, root: str, keys: list[str], label: str) -> State[Any]:
        # Steps run side by side, one for each core. Sums depend on the number of
        # threads in their last digits, so it is the same for every step.
        torch.set_num_threads(1)
        made = work(open_workspace(experiment, root), keys)
        get_run_logger().info("%s %s: %s", name, label, "made" if made else "reused")
        return Completed(name="Made" if made else "Reused")

    return run


def step_task(
    name: str, compute: Compute, *, retries: int = 1, heavy: bool = True
) -> WorkTask:
    """Make the Prefect task that computes one kind of step.

    Args:
        name: the kind of step, and the Prefect task's name.
        compute: how one is computed.
        retries: see `work_task`.
        heavy: see `work_task`.

    Returns:
        The Prefect task.
    """

    def work(workspace: Workspace, keys: list[str]) -> bool:
        steps = [workspace.steps.artifacts[key] for key in keys]
        with turn(workspace.root, keys):
            made = [make(workspace, step, compute) for step in steps]
        return any(made)

    return work_task(name, work, retries=retries, heavy=heavy)


def make(workspace: Workspace, step: Step, compute: Compute) -> bool:
    """Make a step's artifact and record it, unless it exists.

    Args:
        workspace: the experiment at its root.
        step: what to make.
        compute: how.

    Returns:
        Whether it was computed, and not found.
    """
    if not workspace.store.missing({step.key}):
        return False
    tell(News("started", step.key, f"{step.name} {step.label}"))

    def advance(done: int, of: int) -> None:
        tell(News("advanced", step.key, fraction=done / of))

    with workspace.store.write(
        step.key, step.name, step.version, dict(step.inputs), provenance()
    ) as draft:
        with measure_cost() as cost:
            differs = compute(workspace, step, draft.path, advance)
        expected = workspace.estimates.of[step.key]
        cost.flops, cost.paper_flops = expected.flops, expected.paper_flops
        cost.examples = expected.examples
        cost.labelled, cost.unlabelled = expected.labelled, expected.unlabelled
        cost.paper_memory = expected.paper_memory
        cost.bytes_written = sum(path.stat().st_size for path in draft.path.rglob("*"))
        draft.cost = cost.as_dict() | dict(differs)
    record_artifact(workspace, step)
    tell(News("done", step.key))
    return True


def record_artifact(workspace: Workspace, step: Step) -> None:
    """Record a stored step in the ledger; doing it twice leaves one record.

    Args:
        workspace: the experiment at its root.
        step: the step.
    """
    rows = artifact_rows(step, workspace.store.manifest(step.key))
    if step.key in workspace.steps.profiled:
        rows += payload_rows(step.key, workspace.store.path(step.key))
    if step.name == "learn":
        rows += learned_rows(step.key, workspace.store.path(step.key))
    workspace.ledger.append(step.key, rows)
