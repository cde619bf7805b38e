"""Average: the mean of the experts, which most methods are measured against."""

import math
from typing import Annotated

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import PER_EXPERT
from mergegrid.methods.weighting import SignedWeights, shares, weigh


def average(
    experts: Float[Tensor, "expert *shape"],
    *,
    weights: Annotated[
        SignedWeights | None,
        PER_EXPERT,
        Field(description="weight of each expert, in their order; None: all equal"),
    ] = None,
    normalize: Annotated[
        bool,
        Field(description="whether the weighted sum is divided by the sum of weights"),
    ] = True,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter into the mean of the experts, or into their sum.

    merged = sum_e w_e * expert_e / sum_e w_e, with weights w_e that may be negative.
    Without `normalize` nothing is divided, as in mergekit's `linear` with
    `normalize: false`; then also what is the same in every expert is multiplied.

    Args:
        experts: the parameter in every expert.
        weights: w_e, one number per expert; with `normalize`, only their ratios matter.
        normalize: see above.

    Returns:
        The merged parameter, in the precision of `experts`.

    Raises:
        InputError: if there are not as many weights as experts, or they add up to zero
            and are to be divided by their sum.

    Source:
        Wortsman et al., "Model soups", ICML 2022, arXiv:2203.05482 (uniform soup).
    """
    if weights is None:
        summed = experts.sum(dim=0, dtype=torch.float64)
        return (summed / (len(experts) if normalize else 1)).to(experts.dtype)
    if normalize:
        return torch.tensordot(shares(weights, experts), experts, dims=1)
    return weigh(experts, weights).sum(dim=0)


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
        M - 1 additions and a division per entry; with weights, M multiply-adds; without
        either weights or `normalize`, M - 1 additions.
    """
    is_weighted = options.get("weights") is not None
    is_mean = is_weighted or options.get("normalize", True)
    per_entry = 2 * experts if is_weighted else experts if is_mean else experts - 1
    return per_entry * math.prod(shape)


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
    total_if=frozenset({("normalize", False)}),
    sum_of="experts",
    from_sum=average_of_sum,
)
