"""Numbers that are not finite: found, and said whose they are."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers are finite.

    Args:
        tensor: the numbers.

    Returns:
        Whether none is NaN or infinity.
    """
    # A sum is one reading of the numbers; if it overflows, they are looked at.
    return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())


def bad_parameter(
    experts: Sequence[str], parameter: str, stacked: Shaped[Tensor, "expert *shape"]
) -> str:
    """Say which expert's parameter is not finite.

    Args:
        experts: their names.
        parameter: its name.
        stacked: a row for each expert, of which one is not finite.

    Returns:
        The message.
    """
    return (
        f"The expert {_culprit(experts, stacked)!r} has NaN or infinity in its "
        f"parameter {parameter!r}."
    )


def bad_statistic(
    argument: str,
    experts: Sequence[str],
    parameter: str,
    stacked: Shaped[Tensor, "row *shape"],
) -> str:
    """Say which statistic is not finite.

    Args:
        argument: as methods take it, see `mergegrid.methods.method`.
        experts: their names.
        parameter: the parameter's name.
        stacked: a row for each expert, or what is of all together in one.

    Returns:
        The message.
    """
    if argument in {"signs", "coefficients"}:
        return f"The given {argument} have NaN or infinity at {parameter!r}."
    named = {"grams": "gram", "gradients": "gradient"}.get(argument, argument)
    return (
        f"The {named} statistic of expert {_culprit(experts, stacked)!r} has NaN or "
        f"infinity at {parameter!r}."
    )


def _culprit(experts: Sequence[str], stacked: Shaped[Tensor, "expert *shape"]) -> str:
    return next(
        expert
        for expert, row in zip(experts, stacked, strict=True)
        if not bool(torch.isfinite(row).all())
    )
