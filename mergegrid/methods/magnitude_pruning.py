"""Magnitude pruning: the largest entries of each task vector, with nothing merged."""

import math
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option


def magnitude_pruning(
    trimmed: Float[Tensor, "expert *shape"],
) -> Float[Tensor, "expert *shape"]:
    """Take the largest entries of each expert's own task vector.

    The model for task t is pretrained + trimmed task_vector_t: a baseline for
    TALL-masks. `mergegrid.masks.pruning_density` gives the density at which the entries
    take as much to store; where they belong takes more.

    Args:
        trimmed: expert minus pretrained, trimmed, for every expert.

    Returns:
        The trimmed task vectors, before scaling; a copy.

    Source:
        Wang et al., "Localizing Task Information for Improved Model Merging and
        Compression", ICML 2024, sec. 6.2.
    """
    return trimmed.clone()


def magnitude_pruning_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> int:
    """Count the floating-point operations of magnitude pruning on one parameter.

    Finding the thresholds is a statistic's cost and not counted here.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry of every expert: a difference; 3 to trim: magnitude, comparison and
        masking; the multiply-add of the scale.
    """
    return 6 * experts * math.prod(shape)


METHOD = Method(
    name="magnitude_pruning",
    title="Magnitude Pruning",
    merge=magnitude_pruning,
    version=2,
    source='Wang et al., "Localizing task information for improved model merging and '
    'compression", ICML 2024, arXiv:2405.07813, sec. 6.2',
    flops=magnitude_pruning_flops,
    needs=frozenset({Need.PRETRAINED, Need.TRIM}),
    scale=1.0,
    density=0.1,
    sweep=MappingProxyType({"density": (0.1,)}),
    per_task=True,
)
