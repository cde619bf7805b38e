"""Flow that measures the statistics which an experiment's methods need."""

from flows.run import DEFAULT_ROOT, flow_of, run_steps
from flows.schedule import Outcome
from mergegrid.experiment import Experiment
from tasks.measure import fisher_task, gradient_task, gram_task, norms_task
from tasks.trim import trim_task

TASKS = {
    "fisher": fisher_task,
    "gram": gram_task,
    "gradient": gradient_task,
    "norms": norms_task,
    "trim": trim_task,
}


@flow_of("measure", run_name="measure {experiment.name}")
def measure(experiment: Experiment, root: str = DEFAULT_ROOT) -> Outcome:
    """Measure the statistics of every expert that methods need."""
    return run_steps(experiment, root, TASKS)
