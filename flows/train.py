"""Flow that makes models: data, pretrained, one expert for each task, multitask."""

from flows.jobs import MODELS
from flows.schedule import Outcome
from flows.stage import DEFAULT_ROOT, flow_of, refused, run_stage
from mergegrid.errors import MergegridError
from mergegrid.experiment import load_experiment


@flow_of("train", run_name="train {file}")
def train(file: str, root: str = DEFAULT_ROOT, deployment: str = "") -> Outcome:
    """Make the suite's data and every model that an experiment starts from.

    Args:
        file: The experiment's file, as a path that workers can read or as a URL.
        root: Where artifacts and results live: a directory that all workers share, or
            s3://bucket/prefix.
        deployment: What heavy steps are handed to. Empty: they run in this flow's own
            process.

    Returns:
        How the steps ended.
    """
    try:
        return run_stage(load_experiment(file), root, MODELS, deployment)
    except MergegridError as error:
        return refused(error)
