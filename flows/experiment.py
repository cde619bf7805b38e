"""Flow that runs a whole experiment: train, measure, merge, evaluate, record.

It plans from keys, makes only what is missing, and plans again when an artifact turned
out to be damaged. What is done is recorded at once, so that it can end anywhere.
"""

from pathlib import PurePosixPath
from typing import Annotated

from prefect import get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel, Field

from flows.form import (
    ALL_TOGETHER,
    AT_FIRST,
    KNOWN_SUITES,
    MethodsForm,
    SubsetsForm,
    experiment_from_form,
)
from flows.jobs import EVERYTHING
from flows.plan import Plan, make_plan
from flows.publish import publish
from flows.schedule import Outcome
from flows.stage import (
    DEFAULT_ROOT,
    finished,
    flow_of,
    refused,
    run_plan,
    workspace_of,
)
from mergegrid.errors import InputError, MergegridError
from mergegrid.experiment import Experiment, load_experiment
from storage.claims import using
from storage.compaction import compact
from tasks.merge import recipe_of
from tasks.profile_rows import profiled_rows
from tasks.record import cell_row, experiment_row
from tasks.step import record_artifact
from tasks.workspace import Workspace

MOST_REPAIRS = 5
"""Rounds of planning anew after damaged artifacts; more means a failing disk."""

UNNAMED = "from-the-form"
"""What an experiment is called whose form was left without a name."""


def _run_name() -> str:
    given = flow_run.parameters
    file = str(given.get("file") or "")
    return PurePosixPath(file).stem if file else str(given.get("name") or UNNAMED)


@flow_of("experiment", run_name=_run_name)
def experiment(
    file: str = "",
    name: str = UNNAMED,
    suite: Annotated[str, Field(json_schema_extra=KNOWN_SUITES)] = "glyphs",
    methods: MethodsForm = AT_FIRST,
    subsets: SubsetsForm = ALL_TOGETHER,
    seeds: Annotated[list[int], Field(min_length=1)] = [0],  # noqa: B006 - not changed
    root: str = DEFAULT_ROOT,
    deployment: str = "",
) -> Outcome:
    """Train one expert per task, merge them in a grid, evaluate every merge.

    What exists under the root already is used again.

    Args:
        file: An experiment file, as a path that workers can read or as a URL (https,
            s3). It says everything but the root and the deployment; leave the fields
            between as they are.
        name: What the experiment is called in results, in lower case.
        suite: The tasks and their models. Training and statistics are as in the suite's
            own experiment file.
        methods: The methods to compare. Every combination of an option's values is a
            merge; the values shown are the paper's.
        subsets: The experts that are merged with one another.
        seeds: For methods that draw at random.
        root: Where artifacts and results live: a directory that all workers share, or
            s3://bucket/prefix.
        deployment: What training, statistics, merges and evaluation are handed to, in
            shares that its work pool's workers take. Empty: they run in this flow's own
            process.

    Returns:
        How the steps ended.
    """
    try:
        given = _experiment(
            file,
            name=name,
            suite=suite,
            methods=methods,
            subsets=subsets,
            seeds=seeds,
        )
        return run(given, root, deployment)
    except MergegridError as error:
        return refused(error)


def _experiment(
    file: str,
    *,
    name: str,
    suite: str,
    methods: BaseModel,
    subsets: SubsetsForm,
    seeds: list[int],
) -> Experiment:
    if not file:
        return experiment_from_form(
            name=name, suite=suite, methods=methods, subsets=subsets, seeds=seeds
        )
    filled_in = [
        field
        for field, changed in {
            "name": name != UNNAMED,
            "methods": methods != AT_FIRST,
            "subsets": subsets != ALL_TOGETHER,
            "seeds": seeds != [0],
        }.items()
        if changed
    ]
    if filled_in:
        raise InputError(
            f"file: {file} says what the experiment is, but {', '.join(filled_in)} "
            "say something else; leave one or the other as it was."
        )
    return load_experiment(file)


def run(given: Experiment, root: str, deployment: str = "") -> Outcome:
    """Run every step of an experiment that has not been done yet.

    Args:
        given: the experiment.
        root: a directory or `s3://bucket/prefix`.
        deployment: what heavy steps are handed to; empty: this process.

    Returns:
        How the steps ended.

    Raises:
        StepsFailedError: if any failed; the others are done and kept.
    """
    workspace = workspace_of(given, root)
    # Looking for what is there and using it is one thing for who removes artifacts.
    with using(workspace.root, workspace.steps.artifacts):
        outcome = _make_all(workspace, deployment)
        record_waiting(workspace)
        compact(workspace.ledger)
        publish(workspace)
    return finished(outcome)


def _make_all(workspace: Workspace, deployment: str) -> Outcome:
    logger = get_run_logger()
    outcome = Outcome()
    plan = make_plan(workspace)
    for _ in range(MOST_REPAIRS):
        record_experiment(plan)
        outcome = run_plan(plan, EVERYTHING, deployment)
        if not (outcome.failed or outcome.blocked):
            break
        again = make_plan(workspace)
        # Damage is found by whoever reads; what is damaged is set aside and missing.
        lost = again.missing - plan.missing
        if not lost:
            break
        for key in sorted(lost):
            logger.warning("%s is damaged. It is computed again.", key)
        plan = again
    return outcome


def record_experiment(plan: Plan) -> None:
    """Record what the experiment consists of, and which definition is current.

    Also records artifacts whose recording was cut off. Cells that wait for others'
    scores are recorded with them.

    Args:
        plan: what is missing.
    """
    workspace = plan.workspace
    steps = workspace.steps
    for key in sorted(plan.unrecorded):
        record_artifact(workspace, steps.artifacts[key])
    workspace.ledger.append(
        f"experiment-{steps.experiment.name}", [experiment_row(steps)]
    )
    unit = f"cells-{steps.experiment.name}-{steps.definition}"
    if not workspace.ledger.has(unit):
        known = [entry for entry in steps.scored.values() if not entry.best_of]
        rows = [cell_row(steps, entry, entry.cell.options) for entry in known]
        workspace.ledger.append(unit, [*rows, *profiled_rows(steps)])


def record_waiting(workspace: Workspace) -> None:
    """Record the cells whose options had to wait, with the values they got.

    Args:
        workspace: the experiment at its root.
    """
    steps = workspace.steps
    unit = f"waiting-{steps.experiment.name}-{steps.definition}"
    waiting = [entry for entry in steps.scored.values() if entry.best_of]
    if not waiting or workspace.ledger.has(unit):
        return
    keys = {entry.step.key for entry in waiting}
    if workspace.ledger.recorded(keys) == keys:
        rows = [
            cell_row(steps, entry, recipe_of(workspace, entry).options)
            for entry in waiting
        ]
        workspace.ledger.append(unit, rows)
