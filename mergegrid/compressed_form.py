"""The compressed form of experts: what is in its directory, and its description.

    compressed.json            the description: everything that is not a tensor
    task_vector.safetensors    the numbers that all tasks share, coded
    masks/TASK.safetensors     a task's masks, coded
    numbers/TASK.safetensors   a task's own numbers, coded, where none are shared
    plain.safetensors          EMR-merging's factors; averaged running statistics
    companions/                what a restored model needs beside its weights
    pretrained/                the pretrained model, if it is stored, and not named

A coded file has one tensor of bytes: all parameters one after the other, in the order
of the description; see `mergegrid.coding`.
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from mergegrid.documents import Section, validated
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.parameters import Role

DESCRIPTION = "compressed.json"
TASK_VECTOR = "task_vector.safetensors"
MASKS = "masks"
NUMBERS = "numbers"
PLAIN = "plain.safetensors"
COMPANIONS = "companions"
PRETRAINED = "pretrained"

OF_MODEL = "factors"
"""Every task's factor in the plain file, if it is the same for the whole model."""

FACTORS = "factors/"
"""Prefix of the names of those of parameters."""

STATISTICS = "statistics/"
"""Prefix of the names of running statistics there."""

FORMAT = 1
"""Raised whenever what is written could not be read by older code."""


class StoredTensor(Section):
    """A tensor of the models."""

    shape: tuple[int, ...]
    """Its shape."""

    dtype: str
    """Its type in a restored model."""

    role: Role
    """What is done with it."""

    entries: int
    """How many leading entries are merged; the rest is the pretrained model's."""

    same_as: str | None = None
    """The tensor that it is tied to."""

    @property
    def type(self) -> torch.dtype:
        """Its type."""
        return getattr(torch, self.dtype)


class StoredRecipe(Section):
    """How the models were merged."""

    method: str
    version: int
    options: dict[str, Any]


class PretrainedModel(Section):
    """What the experts were fine-tuned from."""

    is_stored: bool
    """Whether it is in the directory."""

    path: str
    """Where it was, as it was written; or in the directory."""

    beside: str | None = None
    """The way there from the directory, if both are on a disk and it is not stored."""

    identity: dict[str, Any]
    """What its files are known by: their SHA-256, or their ETags."""


class Description(Section):
    """Everything about compressed experts that is not a tensor."""

    format: Literal[1]
    """Of the directory."""

    recipe: StoredRecipe
    """How the models were merged."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """The experts that can be restored, in order."""

    norm_factors: tuple[float, ...]
    """For each of them a factor on the scale, which is 1 without `match_norm`."""

    most_bytes: int
    """How large a file of a restored model may be."""

    pretrained: PretrainedModel
    """What the experts were fine-tuned from."""

    tensors: dict[str, StoredTensor] = Field(min_length=1)
    """Every tensor by name."""

    report: dict[str, Any]
    """What a merge would have left beside its model."""

    def number(self, task: str) -> int:
        """Find a task.

        Args:
            task: the expert's name.

        Returns:
            Its place in the order.

        Raises:
            UnknownNameError: if there is none of that name.
        """
        if task not in self.tasks:
            raise UnknownNameError("task", task, self.tasks)
        return self.tasks.index(task)


def read_description(directory: Path) -> Description:
    """Read what is in a directory of compressed experts.

    Args:
        directory: where it is.

    Returns:
        The description.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    if not (directory / DESCRIPTION).is_file():
        raise InputError(
            f"There are no compressed experts at {directory}: it has no {DESCRIPTION}."
        )
    try:
        document = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{directory / DESCRIPTION} is damaged: {error}.") from None
    if not isinstance(document, dict):
        raise InputError(f"{directory / DESCRIPTION} holds no description.")
    if document.get("format") != FORMAT:
        raise InputError(
            f"{directory} is in format {document.get('format')!r}, which this version "
            f"does not read; it reads {FORMAT}."
        )
    return validated(Description, document, source=str(directory / DESCRIPTION))
