"""Options that may have one value for each expert, instead of one for all."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mergegrid.errors import InputError


@dataclass(frozen=True)
class PerExpert:
    """Marks such an option, in the annotation of its type.

    Its value is a tuple with one number for each expert that is merged, in their order,
    or whatever else the type allows, for all of them.
    """


PER_EXPERT = PerExpert()
"""The mark."""


def listed(values: float | tuple[float, ...]) -> tuple[float, ...]:
    """List the values that an option has.

    Args:
        values: one for all experts, or one for each.

    Returns:
        The one, or all of them.
    """
    return values if isinstance(values, tuple) else (values,)


def check_number_of_values(name: str, values: object, experts: int) -> None:
    """Check that there are as many values as experts, if there are several.

    Args:
        name: the option.
        values: its value; a tuple if it has one for each expert.
        experts: how many there are.

    Raises:
        InputError: if it has another number of values.
    """
    if isinstance(values, tuple) and len(values) != experts:
        number = f"{len(values)} value{'s' * (len(values) != 1)}"
        raise InputError(f"There are {experts} experts, but {number} of {name}.")


def each(
    name: str, values: float | tuple[float, ...], experts: int
) -> tuple[float, ...]:
    """List the values of all experts.

    Args:
        name: the option.
        values: one for all experts, or one for each.
        experts: how many there are.

    Returns:
        One for each.

    Raises:
        InputError: if there are not as many values as experts.
    """
    check_number_of_values(name, values, experts)
    return values if isinstance(values, tuple) else (values,) * experts


def factors(
    name: str, values: float | tuple[float, ...], experts: Float[Tensor, "expert ..."]
) -> float | Float[Tensor, "expert ..."]:
    """Shape values so that they calculate with a tensor of every expert.

    Args:
        name: the option.
        values: one for all experts, or one for each.
        experts: any tensor with one row for each expert.

    Returns:
        A value for all experts as it is; others as a tensor in the precision of
        `experts`, with as many axes.

    Raises:
        InputError: if there are not as many values as experts.
    """
    if not isinstance(values, tuple):
        return values
    check_number_of_values(name, values, len(experts))
    numbers = torch.tensor(values, dtype=experts.dtype, device=experts.device)
    return numbers.view(-1, *(1,) * (experts.dim() - 1))


def spread(
    values: tuple[float, ...], members: tuple[int, ...], experts: int
) -> float | tuple[float, ...]:
    """Give experts values that others have, for what is computed of all of them.

    Args:
        values: one for each expert that is merged.
        members: which these are.
        experts: how many there are altogether.

    Returns:
        One for each of them; one alone if all are equal.
    """
    if len(set(values)) == 1:
        return values[0]
    of_members = dict(zip(members, values, strict=True))
    return tuple(of_members.get(index, values[0]) for index in range(experts))
