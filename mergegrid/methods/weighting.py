"""Weights of experts, one option of several methods."""

from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mergegrid.errors import InputError
from mergegrid.methods.per_expert import PER_EXPERT, each, factors

Weights: TypeAlias = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
"""One number per expert, in the order of the experts; only their ratios matter."""

SignedWeights: TypeAlias = tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
"""The same, some of them possibly negative."""

TaskVectorWeights: TypeAlias = Annotated[
    SignedWeights | None,
    PER_EXPERT,
    Field(description="factor on each task vector, in the experts' order; None: all 1"),
]
"""One number per expert, in the order of the experts."""

NO_WEIGHT = 1e-8
"""Sum of weights that counts as zero, so that nothing is divided by it."""


def cancel(weights: SignedWeights) -> bool:
    """Tell whether weights add up to nothing that could be divided by.

    Args:
        weights: one number per expert; only their ratios matter.

    Returns:
        Whether their sum is zero, up to rounding.
    """
    return abs(sum(weights)) <= NO_WEIGHT * sum(map(abs, weights))


def shares(
    weights: SignedWeights | None, experts: Float[Tensor, "expert *shape"]
) -> Float[Tensor, " expert"]:
    """Turn weights into shares of one.

    Args:
        weights: one number per expert; None for equal ones.
        experts: a parameter in every expert.

    Returns:
        Numbers that add up to 1, in the precision of `experts`.

    Raises:
        InputError: if there are not as many weights as experts, or they add up to zero.
    """
    chosen = each("weights", 1.0 if weights is None else weights, len(experts))
    if cancel(chosen):
        raise InputError("The experts' weights must not add up to zero.")
    numbers = torch.tensor(chosen, dtype=torch.float64, device=experts.device)
    return (numbers / numbers.sum()).to(experts.dtype)


def weigh(
    task_vectors: Float[Tensor, "expert *shape"], weights: TaskVectorWeights
) -> Float[Tensor, "expert *shape"]:
    """Multiply every expert's task vector by its weight.

    Args:
        task_vectors: a parameter's task vector of every expert.
        weights: one number per expert; None for 1.

    Returns:
        The products; `task_vectors` itself without weights.

    Raises:
        InputError: if there are not as many weights as experts.
    """
    if weights is None:
        return task_vectors
    return task_vectors * factors("weights", weights, task_vectors)
