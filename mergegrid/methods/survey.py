"""Surveys: what methods ask about the model as a whole."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mergegrid.methods.options import Option, Setting, has_any, keywords, positional


@dataclass(frozen=True)
class Survey:
    """A quantity of the model as a whole, taken in a first pass."""

    measure: Callable[..., Tensor]
    """One block's part of it, float64, with the same naming of arguments as `merge`;
    surveys that come earlier in `Method.surveys` may be among them."""

    combine: Literal["sum", "max"] = "sum"
    """How the parts are put together."""

    only_if: frozenset[Setting] = frozenset()
    """Settings with one of which it is asked for (always, if there are none); with
    others, the argument is None."""

    per_tensor_if: frozenset[Setting] = frozenset()
    """Settings with which it is taken over each tensor by itself, as with
    scope = "tensor"."""

    @functools.cached_property
    def arguments(self) -> tuple[str, ...]:
        """The tensors that `measure` takes, by name."""
        return positional(self.measure)

    @functools.cached_property
    def options(self) -> tuple[str, ...]:
        """The options that `measure` takes, by name."""
        return keywords(self.measure)

    def is_asked(self, options: Mapping[str, Option]) -> bool:
        """Tell whether a recipe asks for it.

        Args:
            options: the recipe's options.

        Returns:
            Whether it does.
        """
        return not self.only_if or has_any(options, self.only_if)

    def is_per_tensor(self, options: Mapping[str, Option]) -> bool:
        """Tell whether it is taken over each tensor by itself.

        Args:
            options: the recipe's options.

        Returns:
            Whether it is.
        """
        return options.get("scope") == "tensor" or has_any(options, self.per_tensor_if)
