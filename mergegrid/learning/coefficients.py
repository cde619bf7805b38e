"""Coefficients of task vectors, and the numbers that stand for them in descent."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

from mergegrid.errors import InputError

Bound: TypeAlias = Literal["tanh", "unit", "none"]
"""What coefficients are kept within: (-1, 1) by a hyperbolic tangent, [0, 1] by
clamping, or nothing."""

Granularity: TypeAlias = Literal["tensor", "model"]
"""Whether an expert has a coefficient for each parameter tensor, or one for all."""

Coefficients: TypeAlias = Float64[Tensor, "tensor expert"]
"""A factor on every expert's task vector, for each parameter tensor."""


@dataclass(frozen=True)
class Parametrization:
    """How coefficients follow from free numbers w that are learned.

    tanh    c = tanh(w)
    unit    c = w, kept in [0, 1]
    none    c = w

    Source: SuperMerge, arXiv:2412.10416, eq. 4 (tanh); Yang et al., "AdaMerging", ICLR
    2024, arXiv:2310.02575, eq. 6 and 7, and the authors' code (unit).
    """

    bound: Bound
    """What coefficients are kept within."""

    granularity: Granularity
    """Which coefficients are one number."""

    tensors: int
    """Parameter tensors."""

    experts: int
    """Task vectors."""

    def start(self, initial: float) -> Float64[Tensor, "rows expert"]:
        """Give the free numbers that stand for one coefficient everywhere.

        Args:
            initial: the coefficient.

        Returns:
            One row for each tensor, or one for all.

        Raises:
            InputError: if the coefficient is out of bounds.
        """
        if self.bound == "tanh" and not -1 < initial < 1:
            raise InputError(
                f"initial = {initial} is no hyperbolic tangent: give a number between "
                f"-1 and 1, or take bound: none."
            )
        if self.bound == "unit" and not 0 <= initial <= 1:
            raise InputError(f"initial = {initial} is not in [0, 1]; see bound.")
        rows = self.tensors if self.granularity == "tensor" else 1
        free = torch.full((rows, self.experts), initial, dtype=torch.float64)
        return free.atanh() if self.bound == "tanh" else free

    def coefficients(self, free: Float64[Tensor, "rows expert"]) -> Coefficients:
        """Give the coefficients that free numbers stand for.

        Args:
            free: w.

        Returns:
            c, for every tensor; gradients pass.
        """
        match self.bound:
            case "tanh":
                bounded = free.tanh()
            case "unit":
                bounded = free.clamp(0, 1)
            case "none":
                bounded = free
        return bounded.expand(self.tensors, self.experts)

    def settle(self, free: Float64[Tensor, "rows expert"]) -> None:
        """Bring free numbers back into bounds after an update, in place.

        A number that is out of reach of [0, 1] would have no gradient to return by.

        Args:
            free: w.
        """
        if self.bound == "unit":
            free.clamp_(0, 1)
