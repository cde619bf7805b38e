"""Flow that merges and evaluates a grid, in units that share their work."""

from flows.plan import make_plan
from flows.run import (
    DEFAULT_ROOT,
    finished,
    flow_of,
    score_job,
    workspace_of,
)
from flows.schedule import Outcome, run_jobs
from mergegrid.experiment import Experiment
from mergegrid.steps import Scored
from tasks.merge import unit_task


@flow_of("merge", run_name="merge {experiment.name}")
def merge(experiment: Experiment, root: str = DEFAULT_ROOT) -> Outcome:
    """Merge and score every cell of the grid that has no scores yet."""
    plan = make_plan(workspace_of(experiment, root))
    jobs = [score_job(plan, unit_task, unit, unit_label(unit)) for unit in plan.units()]
    return finished(run_jobs(jobs, missing=plan.missing | plan.unscored))


def unit_label(unit: list[Scored]) -> str:
    """Say what a unit of cells is about.

    Args:
        unit: its cells.

    Returns:
        Its methods and the number of experts.
    """
    methods = ", ".join(dict.fromkeys(entry.cell.method for entry in unit))
    sizes = sorted({len(entry.cell.experts) for entry in unit})
    return f"{methods} of {', '.join(map(str, sizes))} ({len(unit)} cells)"
