"""MLERP: the average, brought back to the norm of the largest expert."""

import math
from types import MappingProxyType

from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.survey import Survey


def mlerp(
    experts: Float[Tensor, "expert *shape"],
    norms: Float64[Tensor, " expert"],
    square: Float64[Tensor, ""],
) -> Float[Tensor, "*shape"]:
    """Merge one parameter into the average of the experts, rescaled.

    With the average model a, merged = a * max_e |expert_e| / |a|. For two experts of
    equal norm it is SLERP half-way. If the average is zero, so is the result.

    Args:
        experts: the parameter in every expert.
        norms: L2 norms of the experts.
        square: squared L2 norm of the average model, from `mean_square`.

    Returns:
        The merged parameter, in the precision of `experts`.

    Source:
        Kim et al., "Token Fusion", WACV 2024, arXiv:2312.01026; raw mean and largest
        norm as counted in Tam et al., arXiv:2409.18314, App. D.
    """
    mean = experts.mean(dim=0)
    length = math.sqrt(square.item())
    return mean * (norms.max().item() / length) if length > 0 else mean


def mean_square(experts: Float[Tensor, "expert *shape"]) -> Float64[Tensor, ""]:
    """Measure one parameter's part of the average model's squared norm.

    Args:
        experts: the parameter in every expert.

    Returns:
        The sum of squares of the average, in float64.
    """
    return experts.mean(dim=0).double().square().sum()


def mlerp_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of `mlerp` on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry, M multiply-adds for the norms, M operations for each of the two
        averages (survey and merge), a multiply-add for its norm, and the rescaling.
    """
    return (2 * experts + 2 * experts + 2 + 1) * math.prod(shape)


def mlerp_paper_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> float:
    """Count as the Realistic Evaluation paper does, Table 3.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        (2M + 3) dk + (M + 1) log(dk) + log(M), with natural logarithms.
    """
    entries = math.prod(shape)
    logarithm = math.log(entries) if entries else 0.0
    return (2 * experts + 3) * entries + (experts + 1) * logarithm + math.log(experts)


METHOD = Method(
    name="mlerp",
    title="MLERP",
    merge=mlerp,
    version=1,
    source='Kim et al., "Token Fusion: bridging the gap between token pruning and '
    'token merging", WACV 2024, arXiv:2312.01026; as in Tam et al., '
    "arXiv:2409.18314, App. D",
    flops=mlerp_flops,
    paper_flops=mlerp_paper_flops,
    needs=frozenset({Need.NORMS}),
    scope="model",
    surveys=MappingProxyType({"square": Survey(mean_square)}),
)
