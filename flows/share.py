"""Flow that does a share of an experiment's steps, on a worker of its own."""

from typing import Annotated

from pydantic import Field

from flows.here import Here
from flows.jobs import EVERYTHING, make_jobs
from flows.plan import make_plan
from flows.schedule import run_jobs
from flows.stage import devices, finished, flow_of, workspace_of
from mergegrid.experiment import Experiment


@flow_of("share", workers=devices())
def share(
    experiment: Annotated[str, Field(description="the experiment, as JSON text")],
    root: Annotated[str, Field(description="where artifacts and results live")],
    keys: Annotated[list[str], Field(description="keys of the steps to do")],
) -> None:
    """Do some steps of an experiment, one after the other on each device."""
    workspace = workspace_of(Experiment.model_validate_json(experiment), root)
    plan = make_plan(workspace)
    jobs = make_jobs(plan, EVERYTHING, frozenset(keys))
    elsewhere = (plan.missing | plan.unscored).difference(keys)
    outcome = run_jobs(jobs, Here(workspace), missing=elsewhere)
    finished(outcome)
