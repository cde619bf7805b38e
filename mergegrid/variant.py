"""Variants: what tells one merge of a cohort from another, and what they may share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from mergegrid.methods import get_method
from mergegrid.methods.method import Method, Recipe
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import check_number_of_values, spread
from mergegrid.randomness import NUMBERS_PER_COUNT
from mergegrid.statistics.trim import TrimThreshold

TrimKey = tuple[object, ...]
"""What tells one way of trimming from another."""


@dataclass(frozen=True)
class Variant:
    """A merge up to what is done last; recipes that differ in that alone share it."""

    method: Method
    """The method."""

    options: Mapping[str, Option]
    """Every option of the method. Those that may have one value for each expert have
    one for each of `members`; if they are about task vectors, of the whole cohort."""

    members: tuple[int, ...]
    """Which of a cohort's experts it merges, in the cohort's order."""

    @property
    def is_whole_tensor(self) -> bool:
        """Whether it needs every parameter as a whole."""
        method, options = self.method, self.options
        return (
            method.is_whole_tensor(options)
            or method.mark is not None
            or options.get("scope") == "tensor"
            or any(
                survey.is_per_tensor(options) and survey.is_asked(options)
                for survey in method.surveys.values()
            )
        )

    def unit(self, shape: tuple[int, ...]) -> int:
        """Tell how many entries of a parameter must be read together.

        Args:
            shape: the parameter's.

        Returns:
            One; all where it is needed as a whole; or `row_unit`.
        """
        if self.is_whole_tensor:
            return max(math.prod(shape), 1)
        return self.row_unit(shape)

    def row_unit(self, shape: tuple[int, ...]) -> int:
        """Tell how many entries of a parameter must be in a block together.

        Args:
            shape: the parameter's.

        Returns:
            One; where the method takes rows, those of as many as the generator can
            begin to draw after.
        """
        if self.method.by_rows and shape and shape[-1]:
            return math.lcm(shape[-1], NUMBERS_PER_COUNT)
        return 1

    @property
    def reads_pretrained(self) -> bool:
        """Whether the pretrained parameters are read to merge."""
        return Need.PRETRAINED in self.method.needs_of(self.options)


def make_variant(recipe: Recipe, members: tuple[int, ...], experts: int) -> Variant:
    """Make a recipe a merge of a cohort.

    Args:
        recipe: the recipe.
        members: which of the experts it merges, in the cohort's order.
        experts: how many there are.

    Returns:
        The merge.

    Raises:
        InputError: if an option has not as many values as it merges experts.
    """
    method = get_method(recipe.method)
    options = dict(recipe.options)
    # Task vectors are sparsified and trimmed for all merges of the cohort together.
    shared = {"density", *method.sparsified_options}
    for name in method.per_expert:
        values = options[name]
        check_number_of_values(name, values, len(members))
        if name in shared and isinstance(values, tuple):
            options[name] = spread(values, members, experts)
    return Variant(method, options, members)


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
    function = method.sparsify or method.mark
    if function is None:
        return ()
    return (
        function.__qualname__,
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
