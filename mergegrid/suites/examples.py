"""Examples: labelled inputs that are fetched in batches."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from mergegrid.suites.padding import join

Batch: TypeAlias = dict[str, Tensor]
"""Inputs by name; the first axis of each counts examples. `label` [example, *position]
among them is what a model is trained to answer, negative where there is nothing to."""


class Examples(Protocol):
    """A fixed sequence of labelled inputs."""

    def __len__(self) -> int:
        """Count the examples."""
        ...

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        """Fetch some of the examples, in the order asked for."""
        ...


def shared_names(parts: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """Name the inputs that can be put together.

    Args:
        parts: at least one batch, or examples.

    Returns:
        The names that all of them have, in the order of the first.
    """
    return [name for name in parts[0] if all(name in part for part in parts)]


class TensorExamples:
    """Examples held in memory.

    Args:
        tensors: the inputs by name, all with the same first axis.

    Raises:
        ValueError: if the tensors do not agree on the number of examples.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"Inputs differ in their number of examples: {sizes}.")
        self._tensors = dict(tensors)
        self._size = next(iter(sizes.values()))

    def __len__(self) -> int:
        """Count the examples."""
        return self._size

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        """Fetch some of the examples, in the order asked for."""
        return {name: tensor[indices] for name, tensor in self._tensors.items()}


class Some:
    """Some of the examples of a set.

    Args:
        examples: the set.
        indices: which of them, in order.
    """

    def __init__(self, examples: Examples, indices: Tensor) -> None:
        self._examples = examples
        self._indices = indices

    def __len__(self) -> int:
        """Count the examples."""
        return len(self._indices)

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        """Fetch some of the examples, in the order asked for."""
        return self._examples[self._indices[indices]]


class Concatenation:
    """Several sets of examples, one after the other, read only where asked for.

    Args:
        parts: the sets; inputs may differ in size. Inputs that not all of the examples
            asked for have, such as answer choices, are left out.

    Raises:
        ValueError: if there are no parts.
    """

    def __init__(self, parts: Sequence[Examples]) -> None:
        if not parts:
            raise ValueError("There is nothing to concatenate.")
        self._parts = tuple(parts)
        self._ends = list(itertools.accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        """Count the examples of all parts."""
        return self._ends[-1]

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        """Fetch some of the examples, in the order asked for."""
        if isinstance(indices, slice):
            indices = torch.arange(len(self))[indices]
        ends = torch.tensor(self._ends)
        owners = torch.searchsorted(ends, indices.contiguous(), right=True)
        pieces: list[Batch] = []
        places: list[Tensor] = []
        for owner in owners.unique().tolist():
            place = (owners == owner).nonzero().flatten()
            start = self._ends[owner] - len(self._parts[owner])
            pieces.append(self._parts[owner][indices[place] - start])
            places.append(place)
        if not pieces:
            return self._parts[0][:0]
        order = torch.cat(places).argsort()
        return {
            name: join(name, [piece[name] for piece in pieces])[order]
            for name in shared_names(pieces)
        }
