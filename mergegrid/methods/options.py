"""Options: what they are, which functions take, and those that many methods share."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field
from pydantic.fields import FieldInfo

Option: TypeAlias = Any
"""A number, a string, a boolean, None, or a tuple of numbers."""

Setting: TypeAlias = tuple[str, Option]
"""An option and one of its values, where something holds for that value alone."""


def has(options: Mapping[str, Option], setting: Setting) -> bool:
    """Tell whether options hold a setting.

    Args:
        options: every option of a recipe.
        setting: an option and a value.

    Returns:
        Whether the option has that value.
    """
    name, value = setting
    return name in options and options[name] == value


def has_any(options: Mapping[str, Option], settings: Iterable[Setting]) -> bool:
    """Tell whether options hold one of several settings.

    Args:
        options: every option of a recipe.
        settings: options with values.

    Returns:
        Whether any of the options has its value.
    """
    return any(has(options, setting) for setting in settings)


def positional(function: Callable[..., Any]) -> tuple[str, ...]:
    """List a function's positional arguments.

    Args:
        function: any function.

    Returns:
        Their names, in order.
    """
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.KEYWORD_ONLY
    )


def keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    """List a function's keyword-only arguments.

    Args:
        function: any function.

    Returns:
        Their names, in order.
    """
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    )


def density_fields(default: float) -> dict[str, Any]:
    """Give the options of methods that trim task vectors.

    Args:
        default: of the density.

    Returns:
        Name to type and field, as pydantic takes them.
    """
    return {
        "density": (
            float,
            Field(
                default=default,
                gt=0,
                le=1,
                description="fraction of a task vector's entries that is kept",
            ),
        ),
        "selection": (
            Literal["exact", "threshold", "random"],
            Field(
                default="exact",
                description="entries kept: the largest, of equal ones the first; the "
                "largest and all equal ones; or as many at random",
            ),
        ),
    }


def scope_fields(default: str) -> dict[str, Any]:
    """Give the options of methods with whole-model quantities.

    Args:
        default: of the scope.

    Returns:
        Name to type and field, as pydantic takes them.
    """
    return {
        "scope": (
            Literal["model", "tensor"],
            Field(
                default=default,
                description="extent over which norms, angles, magnitudes and "
                "majorities are taken",
            ),
        )
    }


def scale_fields(default: float) -> dict[str, Any]:
    """Give the options of methods that merge task vectors.

    Args:
        default: of the scale.

    Returns:
        Name to type and field, as pydantic takes them.
    """
    return {
        "scale": (
            float,
            Field(
                default=default,
                description="factor on the merged task vector",
                allow_inf_nan=False,
            ),
        ),
        "depth_scale": (
            float,
            Field(
                default=0.0,
                description="LiNeS: added to the scale, from nothing in the first "
                "layer to this in the last",
                allow_inf_nan=False,
            ),
        ),
        "layer_scales": (
            tuple[float, ...] | None,
            Field(
                default=None,
                description="factors on the scale along the depth, interpolated from "
                "the first layer to the last; None: all 1",
            ),
        ),
        "match_norm": (
            bool,
            Field(
                default=False,
                description="whether the merged task vector is brought to the L1 norm "
                "of the mean task vector",
            ),
        ),
    }


def described(option: FieldInfo) -> str:
    """Say what an option is, for messages.

    Args:
        option: the option.

    Returns:
        A sentence with a space before it, or nothing.
    """
    return f" It is the {option.description}." if option.description else ""
