"""What a merge method is: a pure function of one parameter's tensors, and its record.

The function's signature is its schema. Positional arguments are tensors, and each is
one of these, by name (the engine hands over exactly those that a function asks for):

    experts       Float[Tensor, "expert *shape"]    the experts' parameter, float32
    pretrained    Float[Tensor, "*shape"]           the pretrained parameter, float32
    task_vectors  Float[Tensor, "expert *shape"]    experts - pretrained, float32
    fisher        Float[Tensor, "expert *shape"]    diagonal Fisher information
    grams         Float[Tensor, "expert d_in d_in"] Gram matrices of the layer's inputs
    norms         Float[Tensor, " expert"]          L2 norms of the model, float64
    thresholds    Float[Tensor, " expert"]          trim thresholds of the model, for
                                                    the option `density`
    ties_kept     Int[Tensor, " expert"]            entries equal to the threshold that
                                                    are kept in this parameter
    uniform       Float[Tensor, "expert *shape"]    keyed uniform draws in [0, 1)
    survey        Tensor                            the sum of `Method.survey` over all
                                                    parameters of the model

"The model" is the whole model, or this parameter alone where the option `scope` says
so. `pretrained`, `fisher` and `grams` exist only where a method says that it needs
them.

Keyword-only arguments are options, annotated with their range and a description, with
the paper's value as default.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from torch import Tensor

from mergegrid.errors import InputError, UnknownNameError

Option: TypeAlias = Any
"""A number, a string, a boolean, None, or a tuple of numbers."""


class Need(StrEnum):
    """Something that must exist before a method can run, besides the experts."""

    PRETRAINED = "pretrained"
    """The parameters that all experts were fine-tuned from."""

    FISHER = "fisher"
    """Each expert's diagonal Fisher information: one backward pass per example."""

    GRAM = "gram"
    """Each expert's Gram matrices of layer inputs: one forward pass per example."""

    TRIM = "trim"
    """Each expert's trim threshold over the whole task vector, for one density."""

    NORMS = "norms"
    """Each expert's L2 norm over the whole model."""


class Coverage(StrEnum):
    """The parameters that a method's mathematics is for."""

    ALL = "all"
    """Every floating-point parameter."""

    LINEAR = "linear"
    """Weights of linear layers, those with a Gram matrix; the others are averaged."""


@dataclass(frozen=True)
class Recipe:
    """A method and everything that decides what it returns, defaults spelt out."""

    method: str
    """The method's name in the registry."""

    version: int
    """The method's version."""

    options: Mapping[str, Option]
    """Every option of the method, those left at their default included."""

    def identity(self) -> dict[str, Option]:
        """Give the recipe as plain values, for a key.

        Returns:
            Method, version and options.
        """
        return {
            "method": self.method,
            "version": self.version,
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class Method:
    """A merge method's record: what schedulers, tables and messages read."""

    name: str
    """Its name in experiments, rows and plots."""

    title: str
    """Its name as the paper writes it."""

    merge: Callable[..., Tensor]
    """The function. With a `scale`, it returns the merged task vector."""

    version: int
    """Raised whenever the numbers change; part of every key."""

    source: str
    """The paper: authors, title, venue, identifier, equation."""

    flops: Callable[..., int]
    """Exact count for one parameter: (shape, experts, **options) -> FLOPs."""

    paper_flops: Callable[..., float]
    """The Realistic Evaluation paper's Table 3 for one d x k parameter, likewise."""

    needs: frozenset[Need] = frozenset()
    """What must exist before it runs."""

    coverage: Coverage = Coverage.ALL
    """The parameters it is for; the others are averaged."""

    scale: float | None = None
    """Default of the option `scale`, which methods on task vectors share:
    pretrained + scale * merged task vector. None for all other methods."""

    density: float | None = None
    """Default of the option `density`, which methods that trim task vectors share: the
    fraction of entries kept. None for all other methods."""

    scope: str | None = None
    """Default of the option `scope`, which methods with whole-model quantities share:
    "model", or "tensor" to merge every tensor as if it were a model of its own. None
    for all other methods."""

    sweep: Mapping[str, tuple[Option, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """The paper's sweep: option to values. "1/M" stands for one over the number of
    experts, "best" for the scale that task arithmetic does best with on held-in
    validation."""

    survey: Callable[..., Tensor] | None = None
    """One parameter's part of a whole-model sum, taken in a first pass, with the same
    naming of arguments as `merge`."""

    experts: tuple[int, int | None] = (1, None)
    """The fewest and the most experts it takes."""

    @functools.cached_property
    def options(self) -> type[BaseModel]:
        """The schema of its options: type, range, default and description of each."""
        fields: dict[str, Any] = {}
        if self.density is not None:
            fields["density"] = (
                float,
                Field(
                    default=self.density,
                    gt=0,
                    le=1,
                    description="fraction of a task vector's entries that is kept",
                ),
            )
        fields |= {
            name: (parameter.annotation, parameter.default)
            for name, parameter in inspect.signature(self.merge).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        if self.scope is not None:
            fields["scope"] = (
                Literal["model", "tensor"],
                Field(
                    default=self.scope,
                    description="extent over which norms, angles, magnitudes and "
                    "majorities are taken",
                ),
            )
        if self.scale is not None:
            fields["scale"] = (
                float,
                Field(
                    default=self.scale,
                    description="factor on the merged task vector",
                    allow_inf_nan=False,
                ),
            )
        return create_model(
            f"{self.name}_options",
            __config__=ConfigDict(extra="forbid", frozen=True),
            **fields,
        )

    @functools.cached_property
    def arguments(self) -> tuple[str, ...]:
        """The tensors that `merge` takes, by name."""
        return _positional(self.merge)

    @property
    def draws(self) -> bool:
        """Whether its result depends on random draws, and so on a seed."""
        return "uniform" in self.arguments

    @functools.cached_property
    def surveyed(self) -> tuple[str, ...]:
        """The tensors that `survey` takes, by name; none without a survey."""
        return _positional(self.survey) if self.survey is not None else ()

    @functools.cached_property
    def surveyed_options(self) -> tuple[str, ...]:
        """The options that `survey` takes, by name; none without a survey."""
        return _keywords(self.survey) if self.survey is not None else ()

    @functools.cached_property
    def merged_options(self) -> tuple[str, ...]:
        """The options that `merge` takes; shared ones are the engine's."""
        return _keywords(self.merge)

    def recipe(self, options: Mapping[str, Option] | None = None) -> Recipe:
        """Check options and spell the defaults out.

        Args:
            options: the options that differ from the defaults.

        Returns:
            The recipe.

        Raises:
            UnknownNameError: if an option is unknown.
            InputError: if an option is out of range.
        """
        given = dict(options or {})
        for name in given:
            if name not in self.options.model_fields:
                raise UnknownNameError(
                    f"option of {self.name}", name, self.options.model_fields
                )
        try:
            checked = self.options(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise InputError(
                f"{self.name}: {name} = {given[name]!r} is not possible: "
                f"{first['msg'].lower()}."
                f"{_described(self.options.model_fields[name])}"
            ) from None
        return Recipe(self.name, self.version, MappingProxyType(checked.model_dump()))


def _positional(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.KEYWORD_ONLY
    )


def _keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    )


def _described(option: FieldInfo) -> str:
    return f" It is the {option.description}." if option.description else ""
