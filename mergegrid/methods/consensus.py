"""Consensus merging: of the merged task vector, what matters to several tasks."""

import math
from types import MappingProxyType
from typing import Annotated

from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.tall_masks import (
    BEST_THRESHOLDS,
    TIES_BALANCE,
    TIES_NEEDS,
    Comparison,
    MaskThreshold,
    MergeBy,
    multi_task_vector,
    multi_task_vector_flops,
    tall_mask,
    tall_mask_flops,
)
from mergegrid.methods.task_arithmetic import NO_VALIDATION_SCALE, SCALES


def consensus(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"] | None,
    balance: Float64[Tensor, ""] | None,
    *,
    merge_by: MergeBy = "task_arithmetic",
    agreement: Annotated[
        int, Field(ge=0, description="fewest tasks that must select an entry")
    ] = 2,
    mask_threshold: MaskThreshold = 0.4,
    comparison: Comparison = "inclusive",
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's task vectors where enough tasks have a use for it.

    With the masks of `tall_mask`, an entry of the merged task vector is kept if at
    least k tasks select it, and is zero otherwise. k = 1 removes what is of use to no
    task (catastrophic weights), k = 2 also what is of use to one alone (selfish ones);
    k = 0 removes nothing, and more than there are experts everything.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        trimmed: the same, trimmed; for `merge_by="ties"` alone.
        balance: from `trimmed_balance`; for `merge_by="ties"` alone.
        merge_by: what is merged, see `multi_task_vector`.
        agreement: k. The paper has 2 for task arithmetic, and 1 for TIES and for
            models of IA3 vectors.
        mask_threshold: see `tall_mask`; the paper has the best ones of TALL-masks.
        comparison: see `tall_mask`.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`.

    Source:
        Wang et al., "Localizing Task Information for Improved Model Merging and
        Compression", ICML 2024, eq. 8 and 9, App. D.1 and D.3.
    """
    merged = multi_task_vector(task_vectors, trimmed, balance, merge_by=merge_by)
    masks = tall_mask(
        task_vectors, merged, mask_threshold=mask_threshold, comparison=comparison
    )
    return (masks.sum(dim=0) >= agreement) * merged.to(task_vectors.dtype)


def consensus_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of consensus merging on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Per entry: those of `multi_task_vector_flops` and `tall_mask_flops`, M - 1
        additions, a comparison, the masking and the multiply-add of the scale.
    """
    merging = multi_task_vector_flops(experts, str(options.get("merge_by")))
    selecting = tall_mask_flops(experts, str(options.get("comparison")))
    return (merging + selecting + experts - 1 + 4) * math.prod(shape)


METHOD = Method(
    name="consensus",
    title="Consensus",
    merge=consensus,
    version=2,
    source='Wang et al., "Localizing task information for improved model merging and '
    'compression", ICML 2024, arXiv:2405.07813, eq. 8 and 9',
    flops=consensus_flops,
    needs=frozenset({Need.PRETRAINED}),
    needs_if=TIES_NEEDS,
    scale=NO_VALIDATION_SCALE,
    density=0.2,
    # The paper's sweep starts at a scale of 0, which is the pretrained model.
    sweep=MappingProxyType({"mask_threshold": ("best",), "scale": SCALES}),
    best=MappingProxyType({"mask_threshold": BEST_THRESHOLDS}),
    surveys=MappingProxyType({"balance": TIES_BALANCE}),
)
