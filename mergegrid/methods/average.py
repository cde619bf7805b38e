"""Average: the mean of the experts, which most methods are measured against."""

import math
from typing import Annotated

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.options import Option
from mergegrid.methods.weighting import Weights, shares


def average(
    experts: Float[Tensor, "expert *shape"],
    *,
    weights: Annotated[
        Weights | None,
        Field(description="weight of each expert, in their order; None: all equal"),
    ] = None,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter into the mean of the experts.

    With weights w_e, divided by their sum, merged = sum_e w_e * expert_e.

    Args:
        experts: the parameter in every expert.
        weights: one number per expert; only their ratios matter.

    Returns:
        The merged parameter, in the precision of `experts`.

    Source:
        Wortsman et al., "Model soups", ICML 2022, arXiv:2203.05482 (uniform soup).
    """
    if weights is None:
        summed = experts.sum(dim=0, dtype=torch.float64)
        return (summed / len(experts)).to(experts.dtype)
    return torch.tensordot(shares(weights, experts), experts, dims=1)


def average_of_sum(
    summed: Float64[Tensor, "*shape"], experts: int
) -> Float[Tensor, "*shape"]:
    """Merge one parameter into the mean of the experts, whose sum is known.

    Args:
        summed: sum of the parameter over the experts, in float64, in which it does not
            depend on their order.
        experts: their number.

    Returns:
        The merged parameter, float32.
    """
    return (summed / experts).float()


def average_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of `average` on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        M - 1 additions and a division per entry; with weights, M multiply-adds.
    """
    is_weighted = options.get("weights") is not None
    return (2 if is_weighted else 1) * experts * math.prod(shape)


def average_paper_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> float:
    """Count as the Realistic Evaluation paper does, Table 3: M dk.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Floating-point operations.
    """
    return float(experts * math.prod(shape))


METHOD = Method(
    name="average",
    title="Average",
    merge=average,
    version=2,
    source='Wortsman et al., "Model soups: averaging weights of multiple fine-tuned '
    'models improves accuracy without increasing inference time", ICML 2022, '
    "arXiv:2203.05482",
    flops=average_flops,
    paper_flops=average_paper_flops,
    sum_of="experts",
    from_sum=average_of_sum,
)
