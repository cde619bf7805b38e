"""Task arithmetic: the sum of the task vectors, scaled."""

import math
from types import MappingProxyType

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.choice import Choice
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.weighting import TaskVectorWeights, weigh

NO_VALIDATION_SCALE = 0.4
"""The scale for want of validation data, by the TIES paper."""

SCALES = tuple(tenth / 10 for tenth in range(1, 11))
"""The Realistic Evaluation paper's scales, 0.1 to 1.0, Table 5."""

BEST_SCALE = Choice(method="task_arithmetic", option="scale")
"""The scale that task arithmetic does best with over the same experts."""


def task_arithmetic(
    task_vectors: Float[Tensor, "expert *shape"],
    *,
    weights: TaskVectorWeights = None,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's task vectors into their sum.

    The merged parameter is pretrained + scale * sum_e task_vector_e; at a scale of one
    over the number of experts it is the average.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        weights: factors on the task vectors.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`.

    Source:
        Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023,
        arXiv:2212.04089.
    """
    if weights is None:
        summed = task_vectors.sum(dim=0, dtype=torch.float64)
        return summed.to(task_vectors.dtype)
    return weigh(task_vectors, weights).sum(dim=0)


def sum_of_task_vectors(
    summed: Float64[Tensor, "*shape"], _experts: int
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's task vectors, whose sum is known.

    Args:
        summed: sum over the experts, in float64, in which it does not depend on their
            order.
        _experts: their number, on which nothing depends.

    Returns:
        The merged task vector, before scaling, float32.
    """
    return summed.float()


def task_arithmetic_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> int:
    """Count the floating-point operations of task arithmetic on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry, M differences, M - 1 additions and the multiply-add of the scale.
    """
    return (2 * experts + 1) * math.prod(shape)


def task_arithmetic_paper_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> float:
    """Count as the Realistic Evaluation paper does, Table 3: (2M + 1) dk.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Floating-point operations.
    """
    return float((2 * experts + 1) * math.prod(shape))


METHOD = Method(
    name="task_arithmetic",
    title="Task Arithmetic",
    merge=task_arithmetic,
    version=3,
    source='Ilharco et al., "Editing models with task arithmetic", ICLR 2023, '
    "arXiv:2212.04089",
    flops=task_arithmetic_flops,
    paper_flops=task_arithmetic_paper_flops,
    sum_of="task_vectors",
    from_sum=sum_of_task_vectors,
    needs=frozenset({Need.PRETRAINED}),
    scale=NO_VALIDATION_SCALE,
    # The paper's sweep leaves out the scale at which task arithmetic is the average,
    # and with it, for many experts, everything near the best scale.
    sweep=MappingProxyType({"scale": ("1/M", *SCALES)}),
)
