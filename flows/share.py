"""Flow that does a share of an experiment's steps, on a worker of its own."""

from flows.here import Here
from flows.jobs import EVERYTHING, make_jobs
from flows.plan import make_plan
from flows.schedule import run_jobs
from flows.stage import devices, finished, flow_of, workspace_of
from mergegrid.experiment import Experiment
from storage.claims import using


@flow_of("share", workers=devices())
def share(experiment: str, root: str, keys: list[str]) -> None:
    """Do some steps of an experiment, one after the other on each device.

    Args:
        experiment: The experiment, as JSON text.
        root: Where artifacts and results live.
        keys: Of the steps to do.
    """
    workspace = workspace_of(Experiment.model_validate_json(experiment), root)
    # Whoever started this may be gone, and with it what it said to be in use.
    with using(workspace.root, workspace.steps.artifacts):
        plan = make_plan(workspace)
        jobs = make_jobs(plan, EVERYTHING, frozenset(keys))
        elsewhere = (plan.missing | plan.unscored).difference(keys)
        finished(run_jobs(jobs, Here(workspace), missing=elsewhere))
