"""Weights of experts, one option of several methods."""

from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mergegrid.errors import InputError

Weights: TypeAlias = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
"""One number per expert, in the order of the experts; only their ratios matter."""


def shares(
    weights: Weights | None, experts: Float[Tensor, "expert *shape"]
) -> Float[Tensor, " expert"]:
    """Turn weights into shares of one.

    Args:
        weights: one number per expert; None for equal ones.
        experts: a parameter in every expert.

    Returns:
        Non-negative numbers that add up to 1, in the precision of `experts`.

    Raises:
        InputError: if there are not as many weights as experts, or all are zero.
    """
    count = len(experts)
    chosen = (1.0,) * count if weights is None else weights
    if len(chosen) != count:
        raise InputError(f"There are {count} experts, but {len(chosen)} weights.")
    if sum(chosen) <= 0:
        raise InputError("The experts' weights must not all be zero.")
    numbers = torch.tensor(chosen, dtype=torch.float64, device=experts.device)
    return (numbers / numbers.sum()).to(experts.dtype)
