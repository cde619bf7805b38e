"""Variants: what tells one merge of a cohort from another, and what they may share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from mergegrid.methods.method import Method, Need
from mergegrid.methods.options import Option
from mergegrid.statistics.trim import TrimThreshold

TrimKey = tuple[object, ...]
"""What tells one way of trimming from another."""


@dataclass(frozen=True)
class Variant:
    """A merge up to what is done last; recipes that differ in that alone share it."""

    method: Method
    """The method."""

    options: Mapping[str, Option]
    """Every option of the method."""

    members: tuple[int, ...]
    """Which of a cohort's experts it merges, in the cohort's order."""

    @property
    def is_whole_tensor(self) -> bool:
        """Whether it needs every parameter as a whole."""
        method, options = self.method, self.options
        return (
            method.is_whole_tensor(options)
            or options.get("scope") == "tensor"
            or any(
                survey.is_per_tensor(options) and survey.is_asked(options)
                for survey in method.surveys.values()
            )
        )

    @property
    def reads_pretrained(self) -> bool:
        """Whether the pretrained parameters are read to merge."""
        return Need.PRETRAINED in self.method.needs_of(self.options)


@dataclass
class Whole:
    """What is known about "the model" of one recipe, apart from single tensors."""

    norms: Tensor | None = None
    """L2 norm of each expert of the cohort, float64."""

    trims: list[TrimThreshold] | None = None
    """Trim threshold of each expert of the cohort."""

    surveys: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """The method's surveys by name."""


def sparsify_key(method: Method, options: Mapping[str, Option]) -> TrimKey:
    """Tell one way of sparsifying from another.

    Args:
        method: the method.
        options: the recipe's options.

    Returns:
        Equal for recipes whose task vectors are the same.
    """
    if method.sparsify is None:
        return ()
    return (
        method.sparsify.__qualname__,
        *((name, options[name]) for name in method.sparsified_options),
    )


def trim_key(method: Method, options: Mapping[str, Option]) -> TrimKey:
    """Tell one way of trimming from another.

    Args:
        method: a method that trims.
        options: the recipe's options.

    Returns:
        Equal for recipes whose trimmed task vectors are the same.
    """
    return (
        "trim",
        *sparsify_key(method, options),
        options["density"],
        options["selection"],
        options.get("scope"),
    )
