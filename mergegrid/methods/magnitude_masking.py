"""Magnitude masking: the merged task vector where a task's own is largest."""

import math
from types import MappingProxyType

from jaxtyping import Bool, Float
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option


def magnitude_masking(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"],
) -> Float[Tensor, "expert *shape"]:
    """Take from one parameter's summed task vectors what each task changes most.

    The model for task t is pretrained + m_t * sum_e task_vector_e, with the masks m_t
    of `magnitude_mask`: a baseline for TALL-masks, which takes as much to store.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        trimmed: the same, of which the fraction `density` is left.

    Returns:
        Each task's part of the sum, before scaling, in the precision of `task_vectors`.

    Source:
        Wang et al., "Localizing Task Information for Improved Model Merging and
        Compression", ICML 2024, sec. 6.2.
    """
    return magnitude_mask(trimmed) * task_vectors.sum(dim=0)


def magnitude_mask(
    trimmed: Float[Tensor, "expert *shape"],
) -> Bool[Tensor, "expert *shape"]:
    """Select, for every task, the entries that its expert changed most.

    An entry that the expert did not change is never selected, even if there are fewer
    changed ones than `density` says: which of the others are kept would be chance.

    Args:
        trimmed: expert minus pretrained, trimmed, for every expert.

    Returns:
        Whether each entry is selected.
    """
    return trimmed != 0


def magnitude_masking_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> int:
    """Count the floating-point operations of magnitude masking on one parameter.

    Finding the thresholds is a statistic's cost and not counted here.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry: M differences; 3M to trim: magnitudes, comparisons and masking; M - 1
        additions; for every expert a comparison, the masking and the multiply-add of
        the scale.
    """
    return (9 * experts - 1) * math.prod(shape)


METHOD = Method(
    name="magnitude_masking",
    title="Magnitude Masking",
    merge=magnitude_masking,
    version=2,
    source='Wang et al., "Localizing task information for improved model merging and '
    'compression", ICML 2024, arXiv:2405.07813, sec. 6.2',
    flops=magnitude_masking_flops,
    needs=frozenset({Need.PRETRAINED, Need.TRIM}),
    scale=1.0,
    density=0.1,
    sweep=MappingProxyType({"density": (0.1,)}),
    per_task=True,
)
