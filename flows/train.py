"""Flow that makes models: data, pretrained, one expert for each task, multitask."""

from flows.experiment import DeploymentField, FileField, RootField
from flows.form import experiment_from_file
from flows.jobs import MODELS
from flows.schedule import Outcome
from flows.stage import DEFAULT_ROOT, flow_of, refused, run_stage
from mergegrid.errors import MergegridError


@flow_of("train", run_name="train {file}")
def train(
    file: FileField, root: RootField = DEFAULT_ROOT, deployment: DeploymentField = ""
) -> Outcome:
    """Make the suite's data and every model that an experiment starts from."""
    try:
        return run_stage(experiment_from_file(file), root, MODELS, deployment)
    except MergegridError as error:
        return refused(error)
