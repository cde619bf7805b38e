"""Tasks of lm-evaluation-harness, as they are named in an experiment."""

import functools
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from mergegrid.documents import Section
from mergegrid.errors import UnknownNameError
from mergegrid.suites.harness import find_task
from mergegrid.suites.harness_data import HarnessData
from mergegrid.suites.harness_documents import HarnessDocuments
from mergegrid.suites.harness_task import METRICS, Description
from mergegrid.suites.suite import Split

VALIDATION = "[:20%]"
"""The documents that options are chosen on, where a task has one evaluated split."""

TEST = "[20%:]"
"""The others of them."""


class OwnHarness(Section):
    """A task of lm-evaluation-harness: its data, prompt, choices and metric."""

    task: str
    """Its name there."""

    include: str | None = None
    """Folder of task files that come before the harness's own."""

    saved: str | None = None
    """Folder of saved data sets in which its data are, instead of the hub."""

    shots: int | None = Field(default=None, ge=0)
    """How many examples stand before a question; what the task says if not given."""

    seed: int = 1234
    """Which examples; the harness's own value if nothing is said."""

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if self.shots and self.description.config.get("num_fewshot") == 0:
            raise ValueError(f"{self.task} takes no examples: write no shots")
        return self

    @functools.cached_property
    def description(self) -> Description:
        """What its file says."""
        return find_task(self.task, self.include)

    @property
    def data(self) -> HarnessData:
        """Where its documents come from."""
        return HarnessData(self.description, self.saved)

    def scored_by(self, metric: str | None) -> str:
        """Find the counterpart of one of its metrics.

        Args:
            metric: its name in the harness; None for the first that has one.

        Returns:
            Its name here.

        Raises:
            UnknownNameError: if the task has no such metric.
        """
        there_are = self.description.metrics
        if metric is not None and metric not in there_are:
            raise UnknownNameError(f"metric of {self.task}", metric, there_are)
        return METRICS[metric or there_are[0]]

    def ranges(self) -> Mapping[Split, str]:
        """Divide its documents, if the experiment does not.

        Returns:
            Our splits to the data set's: its own where the task has both a validation
            and a test split, else parts of the one that it has.
        """
        said = self.description.config
        trained: str | None = said.get("training_split")
        both: tuple[Any, Any] = (said.get("validation_split"), said.get("test_split"))
        if all(both):
            validation, test = both
        else:
            one = self.description.evaluated
            validation, test = f"{one}{VALIDATION}", f"{one}{TEST}"
        found: dict[Split, str] = {"validation": validation, "test": test}
        return {"train": trained, **found} if trained else found

    def identity(self) -> dict[str, Any]:
        """Tell what decides its questions and answers.

        Returns:
            Plain values; neither its name nor where anything lies is among them.
        """
        return {
            **self.description.identity(),
            "data": self.data.identity(),
            "shots": self.shots,
            "seed": self.seed,
        }

    def open(self) -> HarnessDocuments:
        """Open its data.

        Returns:
            Its documents.
        """
        return HarnessDocuments(self.data, self.shots, self.seed)
