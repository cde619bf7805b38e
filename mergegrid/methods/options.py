"""Options: what they are, which functions take, and those that many methods share."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.methods.per_expert import PER_EXPERT

Option: TypeAlias = Any
"""A number, a string, a boolean, None, or a tuple of numbers."""

Density: TypeAlias = Annotated[float, Field(gt=0, le=1)]
"""The fraction of something that is kept, but not nothing."""

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
            Annotated[Density | tuple[Density, ...], PER_EXPERT],
            Field(
                default=default,
                description="fraction of a task vector's entries that is kept; one, or "
                "one for each expert",
            ),
        ),
        "selection": (
            Literal["exact", "at_least_one", "threshold", "random"],
            Field(
                default="exact",
                description="entries kept: the largest, of equal ones the first; the "
                "same, but at least one; the largest and all equal ones; or as many "
                "at random",
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
                description="whether the scale is for a merged task vector of the L1 "
                "norm of the mean task vector (LiNeS, with a scale of 1)",
            ),
        ),
    }


def make_schema(
    name: str,
    before: Mapping[str, Any],
    functions: Iterable[Callable[..., Any]],
    after: Mapping[str, Any],
) -> type[BaseModel]:
    """Make a schema of options: type, range, default and description of each.

    Args:
        name: its name.
        before: options that come first: name to type and field.
        functions: those whose keyword-only arguments are options.
        after: options that come last.

    Returns:
        The schema.
    """
    fields = dict(before)
    for function in functions:
        fields |= {
            name: (parameter.annotation, parameter.default)
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
    settings = ConfigDict(extra="forbid", frozen=True)
    return create_model(name, __config__=settings, **fields, **after)


def check_options(
    method: str, schema: type[BaseModel], given: Mapping[str, Option]
) -> dict[str, Option]:
    """Check options and spell the defaults out.

    Args:
        method: the method's name, for messages.
        schema: its options.
        given: those that differ from the defaults.

    Returns:
        Every option.

    Raises:
        UnknownNameError: if an option is unknown.
        InputError: if an option is out of range.
    """
    for name in given:
        if name not in schema.model_fields:
            raise UnknownNameError(f"option of {method}", name, schema.model_fields)
    try:
        return schema(**given).model_dump()
    except ValidationError as error:
        # Of an option that may have several values, what is said of one says most.
        found = max(error.errors(), key=lambda each: len(each["loc"]))
        name = str(found["loc"][0])
        described = schema.model_fields[name].description
        raise InputError(
            f"{method}: {name} = {given[name]!r} is not possible: "
            f"{found['msg'].lower()}." + f" It is the {described}." * bool(described)
        ) from None
