"""Flows that do a part of an experiment: its models, statistics, models for reference.

They differ in the kinds of steps alone, and share the form that Prefect draws from
their signature.
"""

from collections.abc import Collection

from prefect import Flow

from flows.jobs import MEASURED, MODELS, REFERENCES
from flows.schedule import Outcome
from flows.stage import DEFAULT_ROOT, flow_of, refused, run_stage
from mergegrid.errors import MergegridError
from mergegrid.experiment import load_experiment


def _flow_over(name: str, kinds: Collection[str]) -> Flow[[str, str, str], Outcome]:
    """Make the flow that makes what is missing of some kinds of steps."""

    @flow_of(name, run_name=f"{name} {{file}}")
    def part(file: str, root: str = DEFAULT_ROOT, deployment: str = "") -> Outcome:
        """Make what is missing of one part of an experiment.

        Args:
            file: The experiment's file, as a path that workers can read or as a URL.
            root: Where artifacts and results live: a directory that all workers share,
                or s3://bucket/prefix.
            deployment: What heavy steps are handed to. Empty: they run in this flow's
                own process.

        Returns:
            How the steps ended.
        """
        try:
            return run_stage(load_experiment(file), root, kinds, deployment)
        except MergegridError as error:
            return refused(error)

    return part


train = _flow_over("train", MODELS)
"""Makes the suite's data and every model that an experiment starts from."""

measure = _flow_over("measure", MEASURED)
"""Measures every expert's statistics, looks at task vectors, and makes the models."""

evaluate = _flow_over("evaluate", REFERENCES)
"""Scores the models for reference, and makes those that are missing."""
