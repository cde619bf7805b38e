"""Flow that measures the statistics which an experiment's methods need."""

from flows.experiment import DeploymentField, FileField, RootField
from flows.form import experiment_from_file
from flows.jobs import MEASURED
from flows.schedule import Outcome
from flows.stage import DEFAULT_ROOT, flow_of, refused, run_stage
from mergegrid.errors import MergegridError


@flow_of("measure", run_name="measure {file}")
def measure(
    file: FileField, root: RootField = DEFAULT_ROOT, deployment: DeploymentField = ""
) -> Outcome:
    """Measure every expert's statistics, and make the models they are of."""
    try:
        return run_stage(experiment_from_file(file), root, MEASURED, deployment)
    except MergegridError as error:
        return refused(error)
