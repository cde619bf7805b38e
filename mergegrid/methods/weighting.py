"""Weights of experts, one option of several methods."""

from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mergegrid.errors import InputError

Weights: TypeAlias = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
"""One number per expert, in the order of the experts; only their ratios matter."""


TaskVectorWeights: TypeAlias = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None,
    Field(description="factor on each task vector, in the experts' order; None: all 1"),
]
"""One number per expert, in the order of the experts."""

NO_WEIGHT = 1e-8
"""Sum of weights that counts as zero, so that nothing is divided by it."""


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


def factors(
    weights: tuple[float, ...], task_vectors: Float[Tensor, "expert *shape"]
) -> Float[Tensor, " expert"]:
    """Turn weights of task vectors into a tensor.

    Args:
        weights: one number per expert.
        task_vectors: a parameter's task vector of every expert.

    Returns:
        The weights, in the precision of `task_vectors`.

    Raises:
        InputError: if there are not as many weights as experts.
    """
    if len(weights) != len(task_vectors):
        raise InputError(
            f"There are {len(task_vectors)} experts, but {len(weights)} weights."
        )
    return torch.tensor(weights, dtype=task_vectors.dtype, device=task_vectors.device)


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
    each = (-1,) + (1,) * (task_vectors.dim() - 1)
    return task_vectors * factors(weights, task_vectors).view(each)
