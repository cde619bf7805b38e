"""Flow that runs a whole experiment: train, measure, merge, evaluate, record.

It plans from keys, makes only what is missing, and plans again when an artifact turned
out to be damaged. What is done is recorded at once, so that it can end anywhere.
"""

from prefect import get_run_logger

from flows.evaluate import evaluate
from flows.measure import TASKS as MEASURE_TASKS
from flows.measure import measure
from flows.merge import merge
from flows.plan import Plan, make_plan
from flows.publish import publish
from flows.run import DEFAULT_ROOT, finished, flow_of, subflow, workspace_of
from flows.schedule import Outcome
from flows.train import TASKS as TRAIN_TASKS
from flows.train import train
from mergegrid.errors import DamagedArtifactError
from mergegrid.experiment import Experiment
from tasks.merge import recipe_of
from tasks.record import cell_row, experiment_row
from tasks.step import record_artifact
from tasks.workspace import Workspace

MOST_REPAIRS = 5
"""Rounds of planning anew after damaged artifacts; more means a failing disk."""


@flow_of("experiment", run_name="{experiment.name}")
def run_experiment(experiment: Experiment, root: str = DEFAULT_ROOT) -> Outcome:
    """Run every step of an experiment that has not been done yet."""
    workspace = workspace_of(experiment, root)
    logger = get_run_logger()
    outcome = Outcome()
    for _ in range(MOST_REPAIRS):
        plan = make_plan(workspace)
        record_experiment(plan)
        outcome = run_plan(plan)
        damaged = [
            failure
            for failure in outcome.failed.values()
            if isinstance(failure, DamagedArtifactError)
        ]
        if not damaged:
            break
        for failure in damaged:
            logger.warning("%s It is computed again.", failure)
    record_waiting(workspace)
    publish(workspace)
    return finished(outcome)


def run_plan(plan: Plan) -> Outcome:
    """Make everything that is missing, stage after stage.

    Args:
        plan: what is missing.

    Returns:
        How the steps ended.
    """
    outcome = Outcome()
    if plan.steps(*TRAIN_TASKS):
        outcome.add(subflow(train, plan))
    if plan.steps(*MEASURE_TASKS):
        outcome.add(subflow(measure, plan))
    if plan.references():
        outcome.add(subflow(evaluate, plan))
    if plan.units():
        outcome.add(subflow(merge, plan))
    return outcome


def record_experiment(plan: Plan) -> None:
    """Record which cells the experiment consists of, and which definition is current.

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
        workspace.ledger.append(unit, rows)


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
