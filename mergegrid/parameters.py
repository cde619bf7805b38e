"""Parameters: a model's tensors by name, and what merging does with each of them.

* Floating-point tensors are merged.
* Running statistics of normalization layers are not parameters: they are averaged, and
  take no part in norms, thresholds or sign elections.
* Counters of batches are copied from the pretrained model (or the first expert).
* Other integers and booleans (position ids, masks) are copied too, and must be equal in
  every model.

A tensor that several names share (a tied embedding) is merged once, under the name that
sorts first.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

import torch
from torch import Tensor

from mergegrid.errors import InputError, LayoutError, NonFiniteError

Parameters: TypeAlias = Mapping[str, Tensor]
"""A model's tensors by name."""


class Role(StrEnum):
    """What merging does with a tensor."""

    MERGED = "merged"
    """It is a parameter."""

    AVERAGED = "averaged"
    """It is a running statistic of a normalization layer."""

    COPIED = "copied"
    """It holds integers or booleans, equal in every model."""

    COUNTER = "counter"
    """It counts batches, and may differ from model to model."""


def role(name: str, tensor: Tensor) -> Role:
    """Tell what merging does with a tensor.

    Args:
        name: the tensor's name.
        tensor: the tensor, of any model.

    Returns:
        Its role.
    """
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return Role.COUNTER
    if not tensor.is_floating_point():
        return Role.COPIED
    is_running = last in {"running_mean", "running_var"}
    return Role.AVERAGED if is_running else Role.MERGED


def check_models(models: Mapping[str, Parameters]) -> None:
    """Check that models can be merged with one another.

    Args:
        models: what to call each model in a message, and its parameters.

    Raises:
        InputError: if there is no model, or a model without parameters.
        LayoutError: if names, shapes or types differ, or the values of a tensor that
            is copied.
        NonFiniteError: if there is NaN or infinity.
    """
    if not models:
        raise InputError("There is nothing to merge: give at least one expert.")
    first, reference = next(iter(models.items()))
    if not reference:
        raise InputError(f"The {first} has no parameters.")
    for model, parameters in models.items():
        for name in sorted(reference.keys() ^ parameters.keys()):
            has, lacks = (first, model) if name in reference else (model, first)
            raise LayoutError(
                f"The {has} has a parameter {name!r}, the {lacks} has not."
            )
        for name in sorted(reference):
            _check_alike(name, first, reference[name], model, parameters[name])
            if not is_finite(parameters[name]):
                raise NonFiniteError(
                    f"The {model} has NaN or infinity in its parameter {name!r}."
                )


def is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor is free of NaN and infinity.

    Args:
        tensor: numbers of any type.

    Returns:
        Whether it is.
    """
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def untie(models: Mapping[str, Parameters]) -> dict[str, str]:
    """Find the tensors that several names share.

    Args:
        models: models of one layout, by name.

    Returns:
        Every name, in sorted order, to the first of the names that share its tensor in
        every model.
    """
    seen: dict[tuple[tuple[int, ...], ...], str] = {}
    names = sorted(next(iter(models.values())))
    return {
        name: seen.setdefault(
            tuple(_identity(parameters[name]) for parameters in models.values()), name
        )
        for name in names
    }


def _identity(tensor: Tensor) -> tuple[int, ...]:
    if tensor.numel() == 0:
        return (id(tensor),)
    return tensor.data_ptr(), *tensor.shape, *tensor.stride()


def _check_alike(name: str, first: str, one: Tensor, model: str, other: Tensor) -> None:
    if one.shape != other.shape:
        raise LayoutError(
            f"The {model} has {name!r} with shape {tuple(other.shape)}, the {first} "
            f"has it with shape {tuple(one.shape)}."
        )
    if one.dtype != other.dtype:
        raise LayoutError(
            f"The {model} has {name!r} in {_called(other)}, the {first} has it in "
            f"{_called(one)}. Convert one of them."
        )
    if role(name, one) is Role.COPIED and not torch.equal(one, other):
        raise LayoutError(
            f"The {model} and the {first} differ in {name!r}, which holds "
            f"{_called(one)} and cannot be merged."
        )


def _called(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
