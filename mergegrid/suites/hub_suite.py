"""What suites have in common whose models and data somebody has published."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from mergegrid.errors import UnknownNameError
from mergegrid.published import Published
from mergegrid.suites.suite import Suite


class HubSuite(Suite):
    """A suite whose pretrained model, experts and data may lie elsewhere."""

    saved: str | None = Field(
        default=None,
        description="folder of saved data sets to use instead of the hub's",
    )
    pretrained_at: str | None = Field(
        default=None,
        description="folder, URL or hub name of the pretrained model, instead of the "
        "published one",
    )
    experts: Mapping[str, str] = Field(
        default_factory=dict,
        description="published experts by task, each a directory, its URL or a name on "
        "the hub; those of other tasks are trained",
    )

    @model_validator(mode="after")
    def _experts_have_tasks(self) -> Self:
        held_in = [task.name for task in self.tasks() if task.held_in]
        for task in self.experts:
            if task not in held_in:
                raise UnknownNameError(f"held-in task of {self.name}", task, held_in)
        return self

    def expert(self, task: str) -> Published | None:
        """Tell which published model is a task's expert.

        Args:
            task: the name of a held-in task.

        Returns:
            The model; None if it is to be trained.
        """
        return Published(self.experts[task]) if task in self.experts else None
