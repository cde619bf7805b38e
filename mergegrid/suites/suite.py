"""What a suite is: a named set of tasks with data and a model family.

Data come from a directory that the suite has prepared before, so that preparing is a
step of its own: done once, stored, and shared by everything that follows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from mergegrid.suites.examples import Examples

Split: TypeAlias = Literal["train", "validation", "test"]
"""Held-in tasks have all three; generalization tasks have a test split only."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many parts are done, and how many there are."""


@dataclass(frozen=True)
class Task:
    """Data, prompts and a metric; every task is scored by accuracy over all classes."""

    name: str
    """Its name, `<category>/<domain>`."""

    version: int
    """Raised when its data, prompts or metric change."""

    category: str
    """The group of classes that its images show."""

    domain: str
    """The style that its images are in."""

    held_in: bool
    """Whether an expert is trained on it; otherwise it measures generalization."""


class Data(Protocol):
    """A suite's examples, opened."""

    def examples(self, task: str, split: Split) -> Examples:
        """Give one split of one task.

        Args:
            task: the task's name.
            split: held-in tasks have all splits, generalization tasks only a test.

        Returns:
            The examples, labelled by the position of their class in `Suite.classes`.
        """
        ...

    def pretraining(self) -> tuple[Examples, Examples]:
        """Give what the pretrained model is trained on.

        Returns:
            Examples to train on, and examples to stop early by.
        """
        ...


class Suite(Protocol):
    """A named set of tasks with its model family."""

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""
        ...

    @property
    def family(self) -> str:
        """The model family that its models belong to."""
        ...

    def options(self) -> dict[str, Any]:
        """Spell all its options out, defaults included.

        Returns:
            Plain values by name, fit for a key.
        """
        ...

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            The held-in tasks, then the others, always in the same order.
        """
        ...

    def architecture(self) -> dict[str, Any]:
        """Describe the model as its family's `create` wants it.

        Returns:
            Plain values, fit for a key.
        """
        ...

    def classes(self) -> tuple[str, ...]:
        """List every class of every task as a prompt.

        Returns:
            The prompts; a label is a position in them.
        """
        ...

    def counts(self) -> Mapping[str, int]:
        """Count the examples of every part of the data, before they are prepared.

        Returns:
            Number of examples by `<task>.<split>`, and of parts that no task owns.
        """
        ...

    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Write all data into a directory.

        Args:
            directory: an empty directory.
            progress: told about the parts done.
        """
        ...

    def open(self, directory: Path) -> Data:
        """Open data that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The data.
        """
        ...
