"""Flow that evaluates the models for reference: pretrained, experts, multitask."""

from flows.experiment import DeploymentField, FileField, RootField
from flows.form import experiment_from_file
from flows.jobs import REFERENCES
from flows.schedule import Outcome
from flows.stage import DEFAULT_ROOT, flow_of, refused, run_stage
from mergegrid.errors import MergegridError


@flow_of("evaluate", run_name="evaluate {file}")
def evaluate(
    file: FileField, root: RootField = DEFAULT_ROOT, deployment: DeploymentField = ""
) -> Outcome:
    """Score the models for reference, and make those that are missing."""
    try:
        return run_stage(experiment_from_file(file), root, REFERENCES, deployment)
    except MergegridError as error:
        return refused(error)
