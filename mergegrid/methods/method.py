"""What a merge method is: a pure function of one parameter's tensors, and its record.

The function's signature is its schema. Positional arguments are tensors, and each is
one of these, by name (the engine hands over exactly those that a function asks for):

    experts       Float[Tensor, "expert *shape"]    the experts' parameter, float32
    pretrained    Float[Tensor, "*shape"]           the pretrained parameter, float32
    task_vectors  Float[Tensor, "expert *shape"]    experts - pretrained, float32, after
                                                    `Method.sparsify`, if there is one
    trimmed       Float[Tensor, "expert *shape"]    task vectors of which only the
                                                    fraction `density` of the model's
                                                    entries is left, as `selection` says
    fisher        Float[Tensor, "expert *shape"]    diagonal Fisher information
    grams         Float[Tensor, "expert d_in d_in"] Gram matrices of the layer's inputs
    gradients     Float[Tensor, "expert d_out d_out"] Gram matrices of the gradients
                                                    with respect to the layer's outputs
    signs         Float[Tensor, "*shape"]           given signs: -1, 0 or 1
    coefficients  Float[Tensor, " expert"]          learned factors on task vectors
    norms         Float[Tensor, " expert"]          L2 norms of the model, float64
    uniform       Float[Tensor, "expert *shape"]    keyed uniform draws in [0, 1)
    NAME          Tensor                            the result of `Method.surveys[NAME]`

"The model" is the whole model, or this parameter alone where the option `scope` says
so. What a method needs with some options only is None with the others.

Keyword-only arguments are options, annotated with their range and a description, with
the paper's value as default. Most methods treat every entry by itself; the engine hands
their parameters over in flat blocks [expert, entry] that fit into the processor's
cache. Methods for which a tensor is more than its entries say so: `whole_tensor`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel
from torch import Tensor

from mergegrid.learning.learned import Learning
from mergegrid.methods.choice import Choice
from mergegrid.methods.needs import Coverage, Fallback, Need
from mergegrid.methods.options import (
    Option,
    Setting,
    check_options,
    density_fields,
    has,
    has_any,
    keywords,
    make_schema,
    positional,
    scale_fields,
    scope_fields,
)
from mergegrid.methods.per_expert import PER_EXPERT, listed
from mergegrid.methods.survey import Survey


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
    """The function. With a `scale`, it returns the merged task vector; with `per_task`,
    one for each expert: [expert, *shape]."""

    version: int
    """Raised whenever the numbers change; part of every key."""

    source: str
    """The paper: authors, title, venue, identifier, equation."""

    flops: Callable[..., int]
    """Exact count for one parameter: (shape, experts, **options) -> FLOPs."""

    paper_flops: Callable[..., float] | None = None
    """The Realistic Evaluation paper's Table 3 for one d x k parameter, likewise; None
    for methods that the table does not have."""

    needs: frozenset[Need] = frozenset()
    """What must exist before it runs, whatever the options."""

    needs_if: Mapping[Setting, frozenset[Need]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """What must exist besides with some settings."""

    coverage: Coverage = Coverage.ALL
    """The parameters it is for."""

    fallback: Fallback = Fallback.AVERAGE
    """What becomes of the others."""

    scale: float | None = None
    """Default of the option `scale`, which methods on task vectors share:
    pretrained + scale * merged task vector. They share `depth_scale`, `layer_scales`
    and `match_norm` too, see `mergegrid.depth`. None for all other methods."""

    density: float | None = None
    """Default of the option `density`, which methods that trim task vectors share: the
    fraction of entries kept. They share `selection` too. None for all other methods."""

    scope: str | None = None
    """Default of the option `scope`, which methods with whole-model quantities share:
    "model", or "tensor" to merge every tensor as if it were a model of its own. None
    for all other methods."""

    sweep: Mapping[str, tuple[Option, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """The paper's sweep: option to values. "1/M" stands for one over the number of
    experts, "best" for what `best` says."""

    best: Mapping[str, Choice] = field(default_factory=lambda: MappingProxyType({}))
    """For options that may be "best": where their value comes from."""

    sparsify: Callable[..., Tensor] | None = None
    """What is done to the task vectors before anything else: thresholds, surveys and
    `merge` are of its result. Takes `task_vectors` and, if it draws, `uniform`."""

    mark: Callable[..., Tensor] | None = None
    """Instead of `sparsify`, where the whole tensor decides which entries are left, the
    others being set to zero: takes a function that gives the task vectors from one
    entry to before another, and the shape; gives [expert, entry], boolean."""

    surveys: Mapping[str, Survey] = field(default_factory=lambda: MappingProxyType({}))
    """Quantities of the whole model that `merge` takes, by name of the argument, each
    after those that it takes itself."""

    sum_of: Literal["experts", "task_vectors"] | None = None
    """What it merges the sum of, where the sum over experts is all that it takes
    (without weights). Nested subsets share running sums then."""

    from_sum: Callable[[Tensor, int], Tensor] | None = None
    """`merge` from that sum, [*shape] in float64, and the number of experts."""

    merge_all: Callable[..., Iterator[Tensor]] | None = None
    """`merge` for several recipes at once, for what they share inside: the same
    tensors, then `recipes=`, the options of each; gives their results in order."""

    total_if: frozenset[Setting] = frozenset()
    """Settings with which it is a total instead of a mean: what is the same in every
    model does not stay as it is then."""

    takes_stacks: bool = False
    """Whether `merge_all` takes several layers of one shape at once, each by itself:
    [expert, layer, *shape], and [layer, *shape] of what experts share."""

    by_rows: bool = False
    """Whether `sparsify` takes whole rows, along a parameter's last axis: it is handed
    [expert, row, entry]."""

    whole_tensor: bool = False
    """Whether a tensor is more to it than its entries, so that blocks will not do."""

    whole_tensor_if: frozenset[Setting] = frozenset()
    """Settings with which it is."""

    memory: Callable[[tuple[int, ...], int], int] | None = None
    """Bytes that `merge` takes for one parameter besides what it is handed, at the
    most and but for a few MB: (shape, experts) -> bytes. Of methods that merge
    parameters as a whole; None where that is some copies of what they are handed."""

    learning: Learning | None = None
    """How the coefficients that it takes are learned; None if it takes none."""

    per_task: bool = False
    """Whether it yields one model for each expert's task, instead of one for all."""

    experts: tuple[int, int | None] = (1, None)
    """The fewest and the most experts it takes."""

    @functools.cached_property
    def options(self) -> type[BaseModel]:
        """The schema of its options: type, range, default and description of each."""
        measured = [survey.measure for survey in self.surveys.values()]
        learn = self.learning.learn if self.learning else None
        functions = (self.sparsify, self.mark, *measured, self.merge, learn)
        return make_schema(
            f"{self.name}_options",
            {} if self.density is None else density_fields(self.density),
            [function for function in functions if function],
            ({} if self.scope is None else scope_fields(self.scope))
            | ({} if self.scale is None else scale_fields(self.scale)),
        )

    @functools.cached_property
    def per_expert(self) -> frozenset[str]:
        """The options that may have one value for each expert."""
        fields = self.options.model_fields
        return frozenset(name for name in fields if PER_EXPERT in fields[name].metadata)

    @functools.cached_property
    def arguments(self) -> tuple[str, ...]:
        """The tensors that `merge` takes, by name."""
        return positional(self.merge)

    @functools.cached_property
    def asked(self) -> frozenset[str]:
        """The tensors that any of its functions takes, by name."""
        surveyed = [survey.arguments for survey in self.surveys.values()]
        return frozenset(self.arguments).union(self.sparsify_arguments, *surveyed)

    @functools.cached_property
    def merged_options(self) -> tuple[str, ...]:
        """The options that `merge` takes; shared ones are the engine's."""
        return keywords(self.merge)

    @functools.cached_property
    def learned_options(self) -> tuple[str, ...]:
        """The options that learning takes; none where nothing is learned."""
        return keywords(self.learning.learn) if self.learning is not None else ()

    @functools.cached_property
    def sparsify_arguments(self) -> tuple[str, ...]:
        """The tensors that `sparsify` takes, by name; none without it."""
        return positional(self.sparsify) if self.sparsify is not None else ()

    @functools.cached_property
    def sparsified_options(self) -> tuple[str, ...]:
        """The options that `sparsify` or `mark` takes; none without either."""
        function = self.sparsify or self.mark
        return keywords(function) if function is not None else ()

    @functools.cached_property
    def all_needs(self) -> frozenset[Need]:
        """What it needs with any options."""
        return self.needs.union(*self.needs_if.values())

    def needs_of(self, options: Mapping[str, Option]) -> frozenset[Need]:
        """Tell what it needs with some options.

        Args:
            options: every option of a recipe.

        Returns:
            What must exist before it runs.
        """
        needs = self._declared(options)
        # Thresholds and norms of the whole model are for that scope only, and a
        # threshold on what was thinned, or drawn, is of this merge alone.
        if options.get("scope") == "tensor":
            needs -= {Need.TRIM, Need.NORMS}
        is_measured = options.get("selection") in {"exact", "threshold"}
        is_raw = (self.sparsify or self.mark) is None
        if not (is_raw and is_measured and self.trims(options)):
            needs -= {Need.TRIM}
        return needs

    def trims(self, options: Mapping[str, Option]) -> bool:
        """Tell whether it merges task vectors of which entries are left out.

        Args:
            options: every option of a recipe.

        Returns:
            Whether it does, with these options.
        """
        return self.takes_trimmed(options) and min(listed(options["density"])) < 1

    def takes_trimmed(self, options: Mapping[str, Option]) -> bool:
        """Tell whether it takes `trimmed`, be it that all entries are kept.

        Args:
            options: every option of a recipe.

        Returns:
            Whether it does, with these options.
        """
        return "trimmed" in self.asked and Need.TRIM in self._declared(options)

    def draws(self, options: Mapping[str, Option]) -> bool:
        """Tell whether its result depends on random draws, and so on a seed.

        Args:
            options: every option of a recipe.

        Returns:
            Whether it does.
        """
        is_random = "uniform" in self.asked or options.get("selection") == "random"
        return is_random or self.learning is not None

    def _declared(self, options: Mapping[str, Option]) -> frozenset[Need]:
        further = [
            needs for setting, needs in self.needs_if.items() if has(options, setting)
        ]
        return self.needs.union(*further)

    def is_sum(self, options: Mapping[str, Option]) -> bool:
        """Tell whether it merges nothing but a sum over experts.

        Args:
            options: every option of a recipe.

        Returns:
            Whether it does, with these options.
        """
        is_mean = not has_any(options, self.total_if)
        return self.sum_of is not None and is_mean and options.get("weights") is None

    def keeps_equal(self, options: Mapping[str, Option]) -> bool:
        """Tell whether equal parameters merge into themselves.

        Args:
            options: every option of a recipe.

        Returns:
            Whether what is the same in every model stays as it is.
        """
        return self.scale is None and not has_any(options, self.total_if)

    def is_whole_tensor(self, options: Mapping[str, Option]) -> bool:
        """Tell whether it must be handed whole tensors.

        Args:
            options: every option of a recipe.

        Returns:
            Whether it must.
        """
        return self.whole_tensor or has_any(options, self.whole_tensor_if)

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
        checked = check_options(self.name, self.options, options or {})
        return Recipe(self.name, self.version, MappingProxyType(checked))
