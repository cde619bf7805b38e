"""Flow that makes models: data, pretrained, one expert for each task, multitask."""

from flows.run import DEFAULT_ROOT, flow_of, run_steps
from flows.schedule import Outcome
from mergegrid.experiment import Experiment
from tasks.train import data_task, multitask_task, pretrain_task, train_task

TASKS = {
    "data": data_task,
    "pretrain": pretrain_task,
    # Before the experts: it takes longest, and should not run alone at the end.
    "multitask": multitask_task,
    "train": train_task,
}


@flow_of("train", run_name="train {experiment.name}")
def train(experiment: Experiment, root: str = DEFAULT_ROOT) -> Outcome:
    """Make the suite's data and every model that an experiment starts from."""
    return run_steps(experiment, root, TASKS)
