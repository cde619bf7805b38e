"""Conjugate gradients on matrices, for many layers at once and without waiting."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor

System: TypeAlias = Callable[[Tensor], Tensor]
"""Takes X [*layer, d_out, d_in] to the left-hand side of a linear system: linear in X,
symmetric and positive semi-definite for every layer's entries as one vector."""

EXHAUSTED = 1e-7
"""Residual, relative to the target, at which nothing but the rounding errors of float32
statistics is left: to reduce it further is to follow directions never seen."""

STEPS_BETWEEN_CHECKS = 8
"""How many steps are made before the host asks whether any is left to make: to ask is
to wait for the device. Steps of layers that are finished change nothing."""


class Iterate(NamedTuple):
    """What an iteration has reached."""

    solution: Tensor
    """X [*layer, d_out, d_in], float64; the next step overwrites it."""

    residual: Tensor
    """Norm of what the system lacks, relative to that of the target [*layer]."""


def conjugate_gradients(
    system: System,
    target: Float64[Tensor, "*layer d_out d_in"],
    start: Float64[Tensor, "*layer d_out d_in"],
    *,
    iterations: int,
) -> tuple[Float64[Tensor, "*layer d_out d_in"], Float64[Tensor, "step *layer"]]:
    """Approach the solution of system(X) = target, each layer's entries as one vector.

    Args:
        system: the left-hand side.
        target: the right-hand side, in the range of `system`.
        start: the first X.
        iterations: most steps.

    Returns:
        X, and |target - system(X)| / |target| at the start and after every step. The
        history ends early if all layers are finished: their residual is `EXHAUSTED`, or
        only directions are left that the system does not see.

    Source:
        Hestenes and Stiefel, "Methods of conjugate gradients for solving linear
        systems", 1952.
    """
    reached = iterate(system, target, start)
    found = list(itertools.islice(reached, iterations + 1))
    return found[-1].solution, torch.stack([each.residual for each in found])


def iterate(
    system: System,
    target: Float64[Tensor, "*layer d_out d_in"],
    start: Float64[Tensor, "*layer d_out d_in"],
) -> Iterator[Iterate]:
    """Take the steps of `conjugate_gradients` one at a time.

    Args:
        system: see `conjugate_gradients`.
        target: see `conjugate_gradients`.
        start: see `conjugate_gradients`.

    Yields:
        The start, then what every step makes of it, until all layers are finished.
    """
    solution = start.clone()
    del start  # as much memory as a step takes, if nobody else holds it
    residual = system(solution)
    torch.sub(target, residual, out=residual)
    direction = residual.clone()
    squared = _dot(residual, residual)
    unit = _dot(target, target).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    del target
    is_going = torch.ones_like(squared, dtype=torch.bool)
    for step in itertools.count():
        relative = squared.sqrt() / unit
        yield Iterate(solution, relative[..., 0, 0])
        is_going = is_going & (relative > EXHAUSTED)
        if step % STEPS_BETWEEN_CHECKS == 0 and not is_going.any():
            return
        image = system(direction)
        curvature = _dot(direction, image)
        is_going = is_going & (curvature > 0)  # else the system sees nothing of it
        length = torch.where(is_going, squared / curvature, 0)
        solution.addcmul_(direction, length)
        residual.addcmul_(image, length, value=-1)
        del image  # before there is another one
        previous, squared = squared, _dot(residual, residual)
        turn = torch.where(is_going, squared / previous, 0)
        direction.mul_(turn).add_(residual)


def _dot(
    one: Float64[Tensor, "*layer d_out d_in"],
    other: Float64[Tensor, "*layer d_out d_in"],
) -> Float64[Tensor, "*layer 1 1"]:
    if one.dim() > 2:
        return (one * other).sum(dim=(-2, -1), keepdim=True)
    return torch.dot(one.flatten(), other.flatten()).view(1, 1)
