"""TIES: trim the task vectors, elect a sign, merge what agrees with it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import factors
from mergegrid.methods.survey import Survey
from mergegrid.methods.weighting import NO_WEIGHT, TaskVectorWeights, weigh

MEAN_SCALES = tuple(tenth / 10 for tenth in range(1, 31))
"""Scales of a mean, which may be larger than those of a sum: the Realistic Evaluation
paper's, 0.1 to 1.0, and those that the authors choose from on validation data, 0.8 to
3.0."""

ZeroSum: TypeAlias = Annotated[
    Literal["majority", "tensor_majority", "strict", "plus"],
    Field(description="sign elected where the trimmed task vectors cancel"),
]

Election: TypeAlias = Annotated[
    Literal["mass", "given", "multitask", "few_shot", "few_shot_average"],
    Field(
        description="where signs come from: the larger mass; given ones; or the task "
        "vector of a multitask model, trained on everything or on a few examples of "
        "each task, from the pretrained model or from the experts' average"
    ),
]

FEW_SHOT = ("few_shot", "few_shot_average")
"""Elections by a multitask model that was trained on a few examples of each task: from
the pretrained model, and from the experts' average."""

FROM_A_MODEL = ("multitask", *FEW_SHOT)
"""Elections by the signs of a multitask model's task vector."""

Aggregate: TypeAlias = Annotated[
    Literal["mean", "sum", "max"],
    Field(description="what the agreeing entries are merged by"),
]


def ties(
    trimmed: Float[Tensor, "expert *shape"],
    signs: Float[Tensor, "*shape"] | None,
    balance: Float64[Tensor, ""] | None,
    *,
    election: Election = "mass",
    zero_sum: ZeroSum = "majority",
    aggregate: Aggregate = "mean",
    weights: TaskVectorWeights = None,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's trimmed task vectors where they agree.

    1. Trim (by the engine): keep the fraction `density` of a model's entries of largest
       magnitude, or as many at random.
    2. Elect: sign = sgn(sum of the trimmed task vectors), entry by entry. Where the sum
       is zero, `majority` takes the sign that is elected most often in the model,
       `tensor_majority` in this parameter (both +1 if neither is), `plus` +1, and
       `strict` none, so that the entry is zero. Signs may be given instead, or those of
       the task vector of a multitask model; where such a sign is 0, so is the entry.
    3. Merge: the mean of the trimmed entries that have the elected sign. Trimmed
       entries are zero and count for nothing. `sum` and `max` (the entry of largest
       magnitude) take the mean's place.

    Args:
        trimmed: expert minus pretrained, trimmed, for every expert.
        signs: the given signs: -1, 0 or 1.
        balance: number of positive minus negative signs elected in the model, from
            `sign_balance`.
        election: see 2.
        zero_sum: see 2.
        aggregate: see 3.
        weights: factors on the task vectors, in election and sum; the mean is divided
            by those of the agreeing entries.

    Returns:
        The merged task vector, before scaling, in the precision of `trimmed`.

    Source:
        Yadav et al., "TIES-Merging", NeurIPS 2023, arXiv:2306.01708, Algorithm 1, and
        App. A.1 for given signs; the rule for zero sums is that of the authors' code,
        except that its tie goes to -1.
    """
    weighted = weigh(trimmed, weights)
    if election != "mass":
        assert signs is not None, "the engine hands given signs over"
        elected = signs.to(weighted.dtype)
    else:
        elected = elect(weighted, balance, zero_sum=zero_sum)
    # Magnitudes of the entries that agree; zero for the others.
    agreeing = (weighted * elected).clamp_(min=0)
    match aggregate:
        case "mean" if weights is None:
            # Signs are 1 where an expert agrees; they add up faster than booleans.
            merged = agreeing.sum(dim=0)
            voters = agreeing.sign_().sum(dim=0).clamp_(min=1)
            return merged.div_(voters).mul_(elected)
        case "mean":
            assert weights is not None, "the case before is without"
            merged = agreeing.sum(dim=0)
            shares = agreeing.sign_().mul_(factors("weights", weights, trimmed))
            total = shares.sum(dim=0)
            total = total.where(total.abs() >= NO_WEIGHT, 1)
            return merged / total * elected
        case "sum":
            return agreeing.sum(dim=0) * elected
        case "max":
            return agreeing.amax(dim=0) * elected


def elect(
    weighted: Float[Tensor, "expert *shape"],
    balance: Float64[Tensor, ""] | None,
    *,
    zero_sum: ZeroSum = "majority",
) -> Float[Tensor, "*shape"]:
    """Elect a sign for every entry: that of the larger mass.

    Args:
        weighted: task vectors, trimmed and weighted.
        balance: see `ties`.
        zero_sum: see `ties`.

    Returns:
        -1, 0 or 1, in the precision of `weighted`.
    """
    elected = signs_by_mass(weighted)
    if zero_sum == "strict":
        return elected
    substitute = 1.0
    if zero_sum != "plus":
        assert balance is not None, "the engine takes the survey"
        substitute = -1.0 if balance < 0 else 1.0
    return elected.masked_fill_(elected == 0, substitute)


def signs_by_mass(
    weighted: Float[Tensor, "expert *shape"],
) -> Float[Tensor, "*shape"]:
    """Give the sign of the sum over experts.

    Args:
        weighted: task vectors, trimmed and weighted.

    Returns:
        -1, 0 or 1, in the precision of `weighted`.
    """
    # In float64 sums of float32 numbers are nearly always exact, so that a sum of zero
    # does not depend on the order of the experts.
    return weighted.sum(dim=0, dtype=torch.float64).sign_().to(weighted.dtype)


def sign_balance(
    trimmed: Float[Tensor, "expert *shape"], *, weights: TaskVectorWeights = None
) -> Float64[Tensor, ""]:
    """Count one parameter's elected signs.

    Args:
        trimmed: expert minus pretrained, trimmed, for every expert.
        weights: see `ties`.

    Returns:
        The number of positive minus that of negative signs.
    """
    return signs_by_mass(weigh(trimmed, weights)).sum(dtype=torch.float64)


def trimmed_balance(trimmed: Float[Tensor, "expert *shape"]) -> Float64[Tensor, ""]:
    """Count one parameter's elected signs, where task vectors have no weights.

    Args:
        trimmed: expert minus pretrained, trimmed, for every expert.

    Returns:
        The number of positive minus that of negative signs.
    """
    return sign_balance(trimmed)


BALANCE = Survey(
    sign_balance,
    only_if=frozenset({("zero_sum", "majority"), ("zero_sum", "tensor_majority")}),
    per_tensor_if=frozenset({("zero_sum", "tensor_majority")}),
)
"""The survey that a method asks for if it elects signs by `elect`."""

UNWEIGHTED_BALANCE = replace(BALANCE, measure=trimmed_balance)
"""The same, of a method that gives task vectors no weights."""


def ties_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of TIES on one parameter.

    Finding the thresholds is a statistic's cost and not counted here.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Per entry: M differences; to elect (twice, since the survey elects too): 3M for
        magnitudes and comparisons, M - 1 additions and a sign; 2 for the rule of zero
        sums; 2M to compare signs and mask; 2M - 1 for sum, count and division (M - 1
        for a sum; 2M for a maximum); the multiply-add of the scale.
    """
    election = 3 * experts + experts - 1 + 1
    merging = aggregate_flops(experts, options)
    operations = experts + 2 * election + 2 + 2 * experts + merging + 2
    return operations * math.prod(shape)


def aggregate_flops(experts: int, options: Mapping[str, Option]) -> int:
    """Count the operations of merging the entries that agree, per entry.

    Args:
        experts: their number M.
        options: the recipe's options, of which `aggregate` counts.

    Returns:
        2M - 1 for sum, count and division; M - 1 for a sum; 2M for a maximum.
    """
    match options.get("aggregate"):
        case "sum":
            return experts - 1
        case "max":
            return 2 * experts
        case _:
            return 2 * experts - 1


def ties_paper_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> float:
    """Count as the Realistic Evaluation paper does, Table 3: (4M + 1) dk.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Floating-point operations.
    """
    return float((4 * experts + 1) * math.prod(shape))


METHOD = Method(
    name="ties",
    title="TIES",
    merge=ties,
    version=3,
    source='Yadav et al., "TIES-Merging: resolving interference when merging models", '
    "NeurIPS 2023, arXiv:2306.01708, Algorithm 1",
    flops=ties_flops,
    paper_flops=ties_paper_flops,
    needs=frozenset({Need.PRETRAINED, Need.TRIM}),
    needs_if=MappingProxyType(
        {
            ("election", election): frozenset({Need.SIGNS})
            for election in ("given", *FROM_A_MODEL)
        }
    ),
    scale=1.0,
    density=0.2,
    scope="model",
    sweep=MappingProxyType({"density": (0.2,), "scale": MEAN_SCALES}),
    surveys=MappingProxyType({"balance": BALANCE}),
)
