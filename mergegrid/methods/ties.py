"""TIES: trim the task vectors, elect a sign, merge what agrees with it."""

import math
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float, Float64, Int
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method, Need, Option
from mergegrid.methods.task_arithmetic import SCALES

Selection: TypeAlias = Annotated[
    Literal["exact", "threshold"],
    Field(description="of entries as large as the smallest kept: the first, or all"),
]


def ties(
    task_vectors: Float[Tensor, "expert *shape"],
    thresholds: Float[Tensor, " expert"],
    ties_kept: Int[Tensor, " expert"],
    survey: Float64[Tensor, ""],
    *,
    selection: Selection = "exact",
    zero_sum: Annotated[
        Literal["majority", "tensor_majority", "strict", "plus"],
        Field(description="sign elected where the trimmed task vectors cancel"),
    ] = "majority",
    aggregate: Annotated[
        Literal["mean", "sum", "max"],
        Field(description="what the agreeing entries are merged by"),
    ] = "mean",
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's task vectors where they agree.

    1. Trim: keep the fraction `density` of a model's entries of largest magnitude.
    2. Elect: sign = sgn(sum of the trimmed task vectors), entry by entry. Where the sum
       is zero, `majority` takes the sign that is elected most often in the model,
       `tensor_majority` in this parameter (both +1 if neither is), `plus` +1, and
       `strict` none, so that the entry is zero.
    3. Merge: the mean of the trimmed entries that have the elected sign. Trimmed
       entries are zero and count for nothing. `sum` and `max` (the entry of largest
       magnitude) take the mean's place.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        thresholds: magnitude of the smallest entry that is kept.
        ties_kept: how many entries of exactly that magnitude are kept here.
        survey: number of positive minus negative signs elected in the model, from
            `ties_survey`.
        selection: `exact` keeps the first `ties_kept` of equal entries, `threshold` all
            of them. (The authors' code does the latter, and keeps one entry more.)
        zero_sum: see 2.
        aggregate: see 3.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`.

    Source:
        Yadav et al., "TIES-Merging", NeurIPS 2023, arXiv:2306.01708, Algorithm 1; the
        rule for zero sums is that of the authors' code, except that its tie goes to -1.
    """
    trimmed = trim(task_vectors, thresholds, ties_kept, selection=selection)
    elected = _elect(trimmed)
    match zero_sum:
        case "majority":
            substitute = _sign_or_plus(survey)
        case "tensor_majority":
            substitute = _sign_or_plus(elected.sum())
        case "plus":
            substitute = torch.ones_like(survey)
        case "strict":
            substitute = torch.zeros_like(survey)
    elected = elected.where(elected != 0, substitute).to(trimmed.dtype)
    agreeing = trimmed.where(trimmed.sign() == elected, 0)
    match aggregate:
        case "mean":
            voters = (agreeing != 0).sum(dim=0).clamp(min=1)
            return agreeing.sum(dim=0) / voters
        case "sum":
            return agreeing.sum(dim=0)
        case "max":
            return elected * agreeing.abs().amax(dim=0)


def ties_survey(
    task_vectors: Float[Tensor, "expert *shape"],
    thresholds: Float[Tensor, " expert"],
    ties_kept: Int[Tensor, " expert"],
    *,
    selection: Selection = "exact",
) -> Float64[Tensor, ""]:
    """Count one parameter's elected signs.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        thresholds: magnitude of the smallest entry that is kept.
        ties_kept: how many entries of exactly that magnitude are kept here.
        selection: see `ties`.

    Returns:
        The number of positive minus that of negative signs.
    """
    return _elect(trim(task_vectors, thresholds, ties_kept, selection=selection)).sum()


def trim(
    task_vectors: Float[Tensor, "expert *shape"],
    thresholds: Float[Tensor, " expert"],
    ties_kept: Int[Tensor, " expert"],
    *,
    selection: Selection = "exact",
) -> Float[Tensor, "expert *shape"]:
    """Set all but the largest entries of one parameter's task vectors to zero.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        thresholds: magnitude of the smallest entry that is kept.
        ties_kept: how many entries of exactly that magnitude are kept, the first ones.
        selection: `threshold` keeps all of them instead.

    Returns:
        The trimmed task vectors.
    """
    each = (-1,) + (1,) * (task_vectors.dim() - 1)
    magnitudes = task_vectors.abs()
    larger = magnitudes > thresholds.view(each)
    equal = magnitudes == thresholds.view(each)
    # Ranking equal entries is slow, and needed only where some of them fall.
    rows = equal.reshape(len(equal), -1)
    if selection == "exact" and (rows.sum(dim=1) > ties_kept).any():
        rank = rows.cumsum(dim=1).view(equal.shape)
        equal &= rank <= ties_kept.view(each)
    return task_vectors.where(larger | equal, 0)


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
    merging = {"sum": experts - 1, "max": 2 * experts}.get(
        str(options.get("aggregate")), 2 * experts - 1
    )
    operations = experts + 2 * election + 2 + 2 * experts + merging + 2
    return operations * math.prod(shape)


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


def _elect(trimmed: Tensor) -> Tensor:
    # In float64 sums of float32 numbers are nearly always exact, so that a sum of zero
    # does not depend on the order of the experts.
    return trimmed.sum(dim=0, dtype=torch.float64).sign()


def _sign_or_plus(total: Tensor) -> Tensor:
    return torch.where(total < 0, -1.0, 1.0).to(total.dtype)


METHOD = Method(
    name="ties",
    title="TIES",
    merge=ties,
    version=1,
    source='Yadav et al., "TIES-Merging: resolving interference when merging models", '
    "NeurIPS 2023, arXiv:2306.01708, Algorithm 1",
    flops=ties_flops,
    paper_flops=ties_paper_flops,
    needs=frozenset({Need.PRETRAINED, Need.TRIM}),
    scale=1.0,
    density=0.2,
    scope="model",
    sweep=MappingProxyType({"density": (0.2,), "scale": ("1/M", *SCALES)}),
    survey=ties_survey,
)
