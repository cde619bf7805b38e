"""MaTS: match the experts in their task subspaces, by conjugate gradients."""

import logging
import math
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Coverage, Method, Need, Option
from mergegrid.methods.task_arithmetic import NO_VALIDATION_SCALE, task_arithmetic

LOGGER = logging.getLogger("mergegrid")

EXHAUSTED = 1e-7
"""Residual, relative to the target, at which nothing but the rounding errors of float32
Gram matrices is left: to reduce it further is to follow directions never seen."""


def mats(
    experts: Float[Tensor, "expert d_out d_in"],
    pretrained: Float[Tensor, "d_out d_in"],
    grams: Float[Tensor, "expert d_in d_in"],
    *,
    iterations: Annotated[
        int, Field(ge=0, description="most steps of conjugate gradients")
    ] = 100,
    initial: Annotated[
        Literal["task_arithmetic", "average"],
        Field(description="merged model that the iteration starts from"),
    ] = "task_arithmetic",
    initial_scale: Annotated[
        float,
        Field(allow_inf_nan=False, description="scale of that task arithmetic"),
    ] = NO_VALIDATION_SCALE,
) -> Float[Tensor, "d_out d_in"]:
    r"""Merge one linear layer by an iteration towards matching every expert.

    Conjugate gradients on the linear system

        W sum_e G_e = sum_e W_e G_e,

    stopped after `iterations` steps. Solved to the end it would be RegMean without
    shrinking; what regularizes it is where it starts and when it stops. Directions that
    no expert ever saw keep their start. The Fisher information is taken as the Gram
    matrix of the inputs alone (B = I), as the Realistic Evaluation paper does; the
    original multiplies by that of the output gradients.

    The sum of Gram matrices is formed once, and all rows of W are solved together as
    one vector, so a step is one matrix product, whatever the number of experts.

    Args:
        experts: W_e, the layer's weight in every expert.
        pretrained: the layer's weight in the pretrained model.
        grams: G_e, from `mergegrid.statistics.gram`.
        iterations: N.
        initial: start from the average, or from
            pretrained + initial_scale * sum_e (W_e - pretrained).
        initial_scale: see above; without effect when starting from the average.

    Returns:
        The merged weight, in the precision of `experts`; computed in float64.

    Source:
        Tam et al., "Merging by Matching Models in Task Parameter Subspaces", TMLR 2024,
        arXiv:2312.04339; as in Tam et al., arXiv:2409.18314.
    """
    start = (
        experts.mean(dim=0)
        if initial == "average"
        else pretrained + initial_scale * task_arithmetic(experts - pretrained)
    )
    summed = torch.zeros_like(grams[0], dtype=torch.float64)
    target = torch.zeros_like(start, dtype=torch.float64)
    for weight, gram in zip(experts, grams, strict=True):
        summed += gram
        target += weight.double() @ gram.double()
    solution, residuals = conjugate_gradients(
        summed, target, start.double(), iterations=iterations
    )
    LOGGER.debug(
        "mats: residual %.3g after %d steps, %.3g before",
        residuals[-1],
        len(residuals) - 1,
        residuals[0],
    )
    return solution.to(experts.dtype)


def conjugate_gradients(
    matrix: Float64[Tensor, "d_in d_in"],
    target: Float64[Tensor, "d_out d_in"],
    start: Float64[Tensor, "d_out d_in"],
    *,
    iterations: int,
) -> tuple[Float64[Tensor, "d_out d_in"], list[float]]:
    """Approach the solution of X matrix = target, all rows as one vector.

    Args:
        matrix: symmetric and positive semi-definite.
        target: rows in the span of `matrix`.
        start: the first X.
        iterations: most steps; fewer are made once the residual is `EXHAUSTED`.

    Returns:
        X, and the norm of target - X matrix relative to that of target: at the start
        and after every step.

    Source:
        Hestenes and Stiefel, "Methods of conjugate gradients for solving linear
        systems", 1952.
    """
    solution = start.clone()
    residual = target - solution @ matrix
    direction = residual.clone()
    squared = residual.square().sum()
    unit = target.norm().clamp(min=torch.finfo(torch.float64).tiny)
    residuals = [float(squared.sqrt() / unit)]
    for _ in range(iterations):
        if residuals[-1] <= EXHAUSTED:
            break
        image = direction @ matrix
        curvature = (direction * image).sum()
        if curvature <= 0:  # nothing but directions never seen is left
            break
        step = squared / curvature
        solution += step * direction
        residual -= step * image
        previous, squared = squared, residual.square().sum()
        direction = residual + (squared / previous) * direction
        residuals.append(float(squared.sqrt() / unit))
    return solution, residuals


def mats_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of MaTS on one linear layer.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **options: the recipe's options.

    Returns:
        With d = d_in, k = d_out and N iterations: M d^2 to add up the Grams, 2M d^2 k
        + M dk for the target, N (2 d^2 k + 10 dk) for the steps, 2 d^2 k + dk for the
        first residual, and the start: (2M + 1) dk, or M dk for the average.
    """
    d_out, d_in = shape
    entries = d_out * d_in
    preparing = experts * d_in**2 + 2 * experts * entries * d_in + experts * entries
    steps = options["iterations"] * (2 * entries * d_in + 10 * entries)
    first = 2 * entries * d_in + entries
    is_average = options.get("initial") == "average"
    start = (experts if is_average else 2 * experts + 1) * entries
    return int(preparing + steps + first + start)


def mats_paper_flops(shape: tuple[int, ...], experts: int, **options: Option) -> float:
    """Count as the Realistic Evaluation paper does, Table 3.

    Args:
        shape: (k, d).
        experts: their number M.
        **options: the recipe's options, of which `iterations` is N.

    Returns:
        (M + N) d^2 k + (2M + 5N - 2) dk.
    """
    entries = math.prod(shape)
    iterations = options["iterations"]
    return float(
        (experts + iterations) * entries * shape[-1]
        + (2 * experts + 5 * iterations - 2) * entries
    )


METHOD = Method(
    name="mats",
    title="MaTS",
    merge=mats,
    version=1,
    source='Tam et al., "Merging by matching models in task parameter subspaces", '
    "TMLR 2024, arXiv:2312.04339",
    flops=mats_flops,
    paper_flops=mats_paper_flops,
    needs=frozenset({Need.PRETRAINED, Need.GRAM}),
    coverage=Coverage.LINEAR,
    sweep=MappingProxyType(
        {"iterations": tuple(range(10, 101, 10)), "initial_scale": ("best",)}
    ),
)
