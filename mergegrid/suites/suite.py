"""What a suite is: a named set of tasks with data and a model family.

Data come from a directory that the suite has prepared before, so that preparing is a
step of its own: done once, stored, and shared by everything that follows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from mergegrid.errors import InputError
from mergegrid.published import Published
from mergegrid.suites.examples import Examples

Split: TypeAlias = Literal["train", "validation", "test"]
"""Held-in tasks have all three; generalization tasks have a test split only."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many parts are done, and how many there are."""


@dataclass(frozen=True)
class Task:
    """Data, prompts and a metric."""

    name: str
    """Its name; `<category>/<domain>` where there are domains."""

    version: int
    """Raised when its data, prompts or metric change."""

    category: str
    """What it asks: a group of classes, a kind of question."""

    domain: str
    """Where its inputs come from: a style of images, a language; may be empty."""

    held_in: bool
    """Whether an expert is trained on it; otherwise it measures generalization."""

    metric: str = "accuracy"
    """How answers are scored, a name from `mergegrid.metrics`."""


@dataclass(frozen=True)
class Fetch:
    """Something that has to be fetched before a suite can be used."""

    what: str
    """Its name where it is published, with its revision if that is known."""

    bytes: int
    """Its size there, about; 0 if it is not known."""

    licence: str
    """What its publisher lets one do with it; empty if it is not known."""


class Data(Protocol):
    """A suite's examples, opened."""

    def examples(self, task: str, split: Split) -> Examples:
        """Give one split of one task.

        Args:
            task: the task's name.
            split: held-in tasks have all splits, generalization tasks only a test.

        Returns:
            The examples, which the suite's family can `encode`.
        """
        ...

    def pretraining(self) -> tuple[Examples, Examples]:
        """Give what the pretrained model is trained on, if the suite trains it.

        Returns:
            Examples to train on, and examples to stop early by.
        """
        ...


class Suite(BaseModel, ABC):
    """A named set of tasks with its model family; its fields are its options."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in experiments and rows."""

    @property
    @abstractmethod
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""

    @property
    @abstractmethod
    def family(self) -> str:
        """The model family that its models belong to."""

    def options(self) -> dict[str, Any]:
        """Spell out all options that decide its data, defaults included.

        Returns:
            Plain values by name, fit for a key.
        """
        return self.model_dump(mode="json")

    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            The held-in tasks, then the others, always in the same order.
        """

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """Describe the model as its family wants it.

        Returns:
            Plain values, fit for a key.
        """

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Count the examples of every part of the data, before they are prepared.

        Returns:
            Number of examples by `<task>.<split>`, and of parts that no task owns.
        """

    def pretrained(self) -> Published | None:
        """Tell which published model the experts start from.

        Returns:
            The model; None if the suite has one trained from nothing, on its data.
        """
        return None

    def expert(self, task: str) -> Published | None:
        """Tell which published model is a task's expert.

        Args:
            task: the name of a held-in task.

        Returns:
            The model; None if it is to be trained.
        """
        del task
        return None

    def fetches(self) -> tuple[Fetch, ...]:
        """List what has to be fetched before the data can be prepared.

        Returns:
            Data sets; models are listed from `pretrained` and `expert`.
        """
        return ()

    @abstractmethod
    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Write all data into a directory.

        Args:
            directory: an empty directory.
            progress: told about the parts done.
        """

    @abstractmethod
    def open(self, directory: Path) -> Data:
        """Open data that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The data.
        """


def nothing_to_pretrain_on(suite: str) -> InputError:
    """Say that a suite has no data to train a model from nothing.

    Args:
        suite: its name.

    Returns:
        The error.
    """
    return InputError(
        f"The suite {suite} starts from a published model and has no data to pretrain "
        f"one."
    )
