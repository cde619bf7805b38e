"""Flow that evaluates the models for reference: pretrained, experts, multitask."""

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
from tasks.evaluate import score_task


@flow_of("evaluate", run_name="evaluate {experiment.name}")
def evaluate(experiment: Experiment, root: str = DEFAULT_ROOT) -> Outcome:
    """Score the pretrained model, every expert and the multitask model."""
    plan = make_plan(workspace_of(experiment, root))
    jobs = [
        score_job(plan, score_task, [entry], entry.step.label)
        for entry in plan.references()
    ]
    return finished(run_jobs(jobs, missing=plan.missing))
