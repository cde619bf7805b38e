"""TALL-masks: a mask for every task that finds its model again in the merged one."""

import math
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from jaxtyping import Bool, Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.choice import Choice
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import PER_EXPERT, factors
from mergegrid.methods.survey import Survey
from mergegrid.methods.task_arithmetic import task_arithmetic_flops
from mergegrid.methods.ties import ties, ties_flops, trimmed_balance

MergeBy: TypeAlias = Annotated[
    Literal["task_arithmetic", "ties"],
    Field(description="what is masked: the sum of all task vectors, or TIES' sum"),
]

Threshold: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Of a mask; the smaller it is, the more entries are selected."""

MaskThreshold: TypeAlias = Annotated[
    Threshold | tuple[Threshold, ...],
    PER_EXPERT,
    Field(
        description="least ratio of a task's change to that of all other tasks; one, "
        "or one for each expert, in their order"
    ),
]

Comparison: TypeAlias = Annotated[
    Literal["inclusive", "strict"],
    Field(description="whether a ratio that equals the threshold is selected"),
]


def tall_masks(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"] | None,
    balance: Float64[Tensor, ""] | None,
    *,
    merge_by: MergeBy = "task_arithmetic",
    mask_threshold: MaskThreshold = 0.4,
    comparison: Comparison = "inclusive",
) -> Float[Tensor, "expert *shape"]:
    """Take from one parameter's merged task vector what is each task's.

    The model for task t is pretrained + m_t * merged task vector, entry by entry, with
    the masks m_t of `tall_mask`. That takes the merged task vector and one bit per task
    and entry to store, instead of a model for each task.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        trimmed: the same, trimmed; for `merge_by="ties"` alone.
        balance: from `trimmed_balance`; for `merge_by="ties"` alone.
        merge_by: see `multi_task_vector`.
        mask_threshold: see `tall_mask`.
        comparison: see `tall_mask`.

    Returns:
        Each task's part of the merged task vector, before scaling, in the precision of
        `task_vectors`.

    Source:
        Wang et al., "Localizing Task Information for Improved Model Merging and
        Compression", ICML 2024, eq. 5 and 6.
    """
    merged = multi_task_vector(task_vectors, trimmed, balance, merge_by=merge_by)
    masks = tall_mask(
        task_vectors, merged, mask_threshold=mask_threshold, comparison=comparison
    )
    return masks * merged.to(task_vectors.dtype)


def tall_mask(
    task_vectors: Float[Tensor, "expert *shape"],
    merged: Float[Tensor, "*shape"],
    *,
    mask_threshold: MaskThreshold = 0.4,
    comparison: Comparison = "inclusive",
) -> Bool[Tensor, "expert *shape"]:
    """Select, for every task, the entries of a merged task vector that are its own.

    With task vectors t_e, merged into t, and thresholds l_e, entry by entry,

        m_e = 1 where |t_e| >= l_e |t - t_e|.

    At l_e = 1 no other mask brings m_e * t closer to t_e, in the L1 norm or in the L2.
    A smaller threshold selects a superset.

    Args:
        task_vectors: t_e, untrimmed, for every expert.
        merged: t.
        mask_threshold: l_e, one for all or one for each.
        comparison: `inclusive` is the paper's, except that an entry is not selected
            where both t and t_e are zero: nobody changed it. `strict` has > for >=, as
            the authors' code does.

    Returns:
        Whether each entry is selected; decided in float64.

    Raises:
        InputError: if there are not as many thresholds as experts.

    Source:
        Wang et al., "Localizing Task Information for Improved Model Merging and
        Compression", ICML 2024, eq. 5 and App. B.
    """
    # In float64, rounding is no part of the comparison, nor is the experts' order.
    precise = task_vectors.double()
    distances = (merged - precise).abs_()
    bounds = distances.mul_(factors("mask_threshold", mask_threshold, precise))
    if comparison == "strict":
        return precise.abs() > bounds
    selected = precise.abs() >= bounds
    return selected.logical_and_((merged != 0).logical_or(precise != 0))


def multi_task_vector(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"] | None,
    balance: Float64[Tensor, ""] | None,
    *,
    merge_by: MergeBy = "task_arithmetic",
) -> Float64[Tensor, "*shape"]:
    """Merge one parameter's task vectors into the one that masks select from.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        trimmed: the same, trimmed; for `ties`.
        balance: from `trimmed_balance`; for `ties`.
        merge_by: `task_arithmetic` is the sum of the task vectors, `ties` the sum of
            the trimmed entries that agree with the elected sign (the majority's where
            they cancel).

    Returns:
        The merged task vector, in float64.
    """
    if merge_by == "task_arithmetic":
        return task_vectors.double().sum(dim=0)
    assert trimmed is not None, "the engine trims"
    return ties(trimmed.double(), None, balance, aggregate="sum")


TIES_BALANCE = Survey(trimmed_balance, only_if=frozenset({("merge_by", "ties")}))
"""The survey of methods that mask a merged task vector."""

TIES_NEEDS = MappingProxyType({("merge_by", "ties"): frozenset({Need.TRIM})})
"""What such methods need to merge by TIES."""

DECIDING = ("merge_by", "comparison", "density", "selection")
"""Options that decide on masks, apart from the thresholds."""

BEST_THRESHOLDS = Choice(
    method="tall_masks", option="mask_threshold", per_task=True, alike=DECIDING
)
"""For every task the threshold that does best on it, over the same experts."""


def multi_task_vector_flops(experts: int, merge_by: str) -> int:
    """Count the floating-point operations of `multi_task_vector` for one entry.

    Args:
        experts: their number M.
        merge_by: see `multi_task_vector`.

    Returns:
        M differences and M - 1 additions; for TIES those of `ties_flops` with a sum,
        without the scale.
    """
    if merge_by == "ties":
        return ties_flops((), experts, aggregate="sum") - 2
    return task_arithmetic_flops((), experts) - 2


def tall_mask_flops(experts: int, comparison: str) -> int:
    """Count the floating-point operations of `tall_mask` for one entry.

    Args:
        experts: their number M.
        comparison: see `tall_mask`.

    Returns:
        For every expert a difference, two magnitudes, a product and a comparison;
        unless it is strict, another three for what nobody changed, and one besides.
    """
    return 5 * experts if comparison == "strict" else 8 * experts + 1


def tall_masks_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of TALL-masks on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Per entry: those of `multi_task_vector_flops` and `tall_mask_flops`; for every
        expert the masking and the multiply-add of the scale.
    """
    merging = multi_task_vector_flops(experts, str(options.get("merge_by")))
    selecting = tall_mask_flops(experts, str(options.get("comparison")))
    return (merging + selecting + 3 * experts) * math.prod(shape)


METHOD = Method(
    name="tall_masks",
    title="TALL-masks",
    merge=tall_masks,
    version=2,
    source='Wang et al., "Localizing task information for improved model merging and '
    'compression", ICML 2024, arXiv:2405.07813, eq. 5 and 6',
    flops=tall_masks_flops,
    needs=frozenset({Need.PRETRAINED}),
    needs_if=TIES_NEEDS,
    scale=1.0,
    density=0.2,
    sweep=MappingProxyType({"mask_threshold": (0.2, 0.3, 0.4, 0.5, 0.6)}),
    best=MappingProxyType(
        {
            "mask_threshold": Choice(
                method="tall_masks",
                option="mask_threshold",
                per_task=True,
                alike=(*DECIDING, "scale"),
            )
        }
    ),
    surveys=MappingProxyType({"balance": TIES_BALANCE}),
    per_task=True,
)
