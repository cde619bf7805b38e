"""Flow that measures the statistics which an experiment's methods need."""

from flows.jobs import MEASURED
from flows.schedule import Outcome
from flows.stage import DEFAULT_ROOT, flow_of, refused, run_stage
from mergegrid.errors import MergegridError
from mergegrid.experiment import load_experiment


@flow_of("measure", run_name="measure {file}")
def measure(file: str, root: str = DEFAULT_ROOT, deployment: str = "") -> Outcome:
    """Measure every expert's statistics, and make the models they are of.

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
        return run_stage(load_experiment(file), root, MEASURED, deployment)
    except MergegridError as error:
        return refused(error)
