"""SLERP: the point between two experts on the arc that joins them."""

import math
from types import MappingProxyType
from typing import Annotated, Literal

from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.survey import Survey

PARALLEL = 0.9995
"""Cosine beyond which the arc is as good as its chord; mergekit's threshold."""

SMALLEST_SINE = 1e-6
"""Sine of the angle below which the arc is not defined by its ends."""


def slerp(
    experts: Float[Tensor, "expert *shape"],
    norms: Float64[Tensor, " expert"],
    dot: Float64[Tensor, ""],
    *,
    t: Annotated[
        float, Field(ge=0, le=1, description="position between the two experts")
    ] = 0.5,
    variant: Annotated[
        Literal["raw", "unit"],
        Field(
            description="vectors that the weights are for: as they are, or of norm 1"
        ),
    ] = "raw",
) -> Float[Tensor, "*shape"]:
    """Merge one parameter of two experts along the arc between the two models.

    With the angle omega between the models a and b,

        merged = (sin((1 - t) omega) a + sin(t omega) b) / sin(omega).

    The variant `unit` takes a and b with norm 1 and multiplies the result by the norm
    (1 - t) |a| + t |b|; at equal norms the two agree. Where the models are nearly
    parallel, opposite, or one of them is zero, the arc becomes the straight line.

    Args:
        experts: the parameter in both experts.
        norms: L2 norms of both models.
        dot: product of the two models, from `dot_product`.
        t: 0 for the first expert, 1 for the second.
        variant: see above.

    Returns:
        The merged parameter, in the precision of `experts`.

    Source:
        Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985; over
        whole models as in Tam et al., arXiv:2409.18314, App. D.
    """
    first, second = norms.tolist()
    if first == 0 or second == 0:
        return (1 - t) * experts[0] + t * experts[1]
    cosine = max(-1.0, min(1.0, dot.item() / (first * second)))
    weights = 1 - t, t
    sine = math.sqrt(1 - cosine**2)
    if abs(cosine) <= PARALLEL and sine >= SMALLEST_SINE:
        omega = math.acos(cosine)
        weights = math.sin((1 - t) * omega) / sine, math.sin(t * omega) / sine
    if variant == "unit":
        norm = (1 - t) * first + t * second
        weights = weights[0] * (norm / first), weights[1] * (norm / second)
    return weights[0] * experts[0] + weights[1] * experts[1]


def dot_product(experts: Float[Tensor, "expert *shape"]) -> Float64[Tensor, ""]:
    """Measure one parameter's part of the dot product of two models.

    Args:
        experts: the parameter in both experts.

    Returns:
        The sum of products, in float64: the models are so nearly parallel that float32
        does not resolve the angle.
    """
    return (experts[0].double() * experts[1].double()).sum()


def slerp_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of `slerp` on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M, which is 2.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry, a multiply-add for each norm and for the dot product, and M products
        and M - 1 additions for the sum.
    """
    return (2 * experts + 2 + 2 * experts - 1) * math.prod(shape)


def slerp_paper_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> float:
    """Count as the Realistic Evaluation paper does, Table 3.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        (5M - 2) dk + (M + 1) log(dk), with the natural logarithm.
    """
    entries = math.prod(shape)
    logarithm = math.log(entries) if entries else 0.0
    return (5 * experts - 2) * entries + (experts + 1) * logarithm


METHOD = Method(
    name="slerp",
    title="SLERP",
    merge=slerp,
    version=1,
    source='Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985; for '
    "models as in Tam et al., arXiv:2409.18314, App. D",
    flops=slerp_flops,
    paper_flops=slerp_paper_flops,
    needs=frozenset({Need.NORMS}),
    scope="model",
    surveys=MappingProxyType({"dot": Survey(dot_product)}),
    experts=(2, 2),
)
