"""Task vectors that are kept in memory, and sums of task vectors."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.learning.merged_model import Directions


class Held:
    """Task vectors that were made once and are kept in memory.

    Args:
        directions: what to keep.
        on: where; they are brought to the model one tensor at a time.
    """

    def __init__(self, directions: Directions, on: torch.device | None = None) -> None:
        self.names = directions.names
        self.experts = directions.experts
        self._device: dict[str, torch.device] = {}
        self._vectors: dict[str, Tensor] = {}
        for name in directions.names:
            made = directions.of(name)
            self._device[name] = made.device
            self._vectors[name] = made.to(on or made.device)

    def of(self, name: str) -> Float[Tensor, "expert entry"]:
        """Give the task vectors of one parameter; see `Directions.of`."""
        return self._vectors[name].to(self._device[name], non_blocking=True)


class Combined:
    """Sums of task vectors, each by coefficients of its own.

    Args:
        directions: the task vectors.
        sums: name to the coefficients of one sum, [tensor, expert].
    """

    def __init__(
        self, directions: Directions, sums: Mapping[str, Float64[Tensor, "_ _"]]
    ) -> None:
        self.names = directions.names
        self.experts: Sequence[str] = tuple(sums)
        self._directions = directions
        self._sums = torch.stack(list(sums.values()), dim=1)
        self._number = {name: number for number, name in enumerate(self.names)}

    def of(self, name: str) -> Float[Tensor, "sum entry"]:
        """Add up the task vectors of one parameter; see `Directions.of`."""
        vectors = self._directions.of(name)
        return self._sums[self._number[name]].to(vectors) @ vectors
