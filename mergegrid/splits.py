"""Splits: what the models of a method's tasks share, and what each has of its own.

Methods that yield a model for every task need not be stored as so many models. Masked
ones have one task vector in common, and of their own a bit for each entry; pruned ones
have a bit for each entry, and numbers where it is set. The model for task t is

    pretrained + scale * r_t m_t * v      or      pretrained + scale * m_t * v_t

entry by entry, with masks m_t, shared numbers v, factors r_t (EMR-merging's, else 1),
and own numbers v_t. A split says which these are, and restores from them what the
method gives, bit for bit.
"""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from mergegrid.blocks import Block
from mergegrid.cohort import Cohort
from mergegrid.errors import InputError
from mergegrid.methods import emr, magnitude_masking, tall_masks
from mergegrid.methods.method import Method, Recipe
from mergegrid.methods.options import Option
from mergegrid.methods.tall_masks import Comparison, MaskThreshold, MergeBy
from mergegrid.passes import merge_pass
from mergegrid.streaming import measure_norm_factors
from mergegrid.surveying import measure


@dataclass(frozen=True)
class Split:
    """A stretch of one parameter, of all tasks' models."""

    masks: Bool[Tensor, "expert *shape"]
    """Whether an entry is in a task's model."""

    numbers: Float[Tensor, "vector *shape"]
    """The numbers that masks select from: one row that all tasks share, or one for each
    task."""

    factors: Float[Tensor, " expert"] | None = None
    """Every task's factor on them, positive; None for 1."""

    is_changed: bool = True
    """Whether any expert differs from the pretrained model here."""


def restored(
    mask: Bool[Tensor, "*shape"], numbers: Float[Tensor, "*shape"], factor: float
) -> Float[Tensor, "*shape"]:
    """Restore a task's merged task vector from its part of a split.

    Args:
        mask: the task's.
        numbers: the shared ones, or the task's own.
        factor: the task's.

    Returns:
        What the method gives before scaling, float32, bit for bit.
    """
    return (mask * numbers).mul_(factor)


def split_tall_masks(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"] | None,
    balance: Float64[Tensor, ""] | None,
    *,
    merge_by: MergeBy,
    mask_threshold: MaskThreshold,
    comparison: Comparison,
) -> Split:
    """Split what `tall_masks` gives; see there."""
    merged = tall_masks.multi_task_vector(
        task_vectors, trimmed, balance, merge_by=merge_by
    )
    masks = tall_masks.tall_mask(
        task_vectors, merged, mask_threshold=mask_threshold, comparison=comparison
    )
    return Split(masks, merged.to(task_vectors.dtype)[None])


def split_magnitude_masking(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"],
) -> Split:
    """Split what `magnitude_masking` gives; see there."""
    masks = magnitude_masking.magnitude_mask(trimmed)
    return Split(masks, task_vectors.sum(dim=0)[None])


def split_emr(
    task_vectors: Float[Tensor, "expert *shape"], masses: Float64[Tensor, "2 expert"]
) -> Split:
    """Split what `emr` gives; see there."""
    unified = emr.unify(task_vectors)
    masks = emr.emr_mask(task_vectors, unified)
    return Split(masks, unified[None], emr.rescalers(masses).to(task_vectors.dtype))


def split_magnitude_pruning(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"],
) -> Split:
    """Split what `magnitude_pruning` gives; see there."""
    del task_vectors  # what is left of them is enough
    return Split(trimmed != 0, trimmed)


@dataclass(frozen=True)
class Splitter:
    """How a method's models for tasks are split."""

    split: Callable[..., Split]
    """Splits a stretch of one parameter: takes what the method's function takes, task
    vectors first."""

    is_shared: bool = True
    """Whether tasks share their numbers."""

    has_factors: bool = False
    """Whether every task has a factor on them."""


SPLITTERS: Mapping[str, Splitter] = MappingProxyType(
    {
        "tall_masks": Splitter(split_tall_masks),
        "magnitude_masking": Splitter(split_magnitude_masking),
        "magnitude_pruning": Splitter(split_magnitude_pruning, is_shared=False),
        "emr": Splitter(split_emr, has_factors=True),
    }
)
"""The methods whose models for tasks can be split."""

EmitSplit = Callable[[str, Split], None]
"""Takes a parameter, and the split of its next stretch, flat."""


def get_splitter(method: str) -> Splitter:
    """Look up how a method's models are split.

    Args:
        method: its name.

    Returns:
        The splitter.

    Raises:
        InputError: if they cannot be.
    """
    if method not in SPLITTERS:
        raise InputError(
            f"{method} yields one model for all tasks, in which there is nothing to "
            f"compress: merge it. Methods that can be compressed are "
            f"{', '.join(SPLITTERS)}."
        )
    return SPLITTERS[method]


class Splitting:
    """The split of a cohort by one recipe.

    Args:
        cohort: the experts; everything that the recipe needs has been checked.
        recipe: a method that can be split, and its options.
        experts: which experts to merge; None for all.

    Raises:
        InputError: if the method's models cannot be split.
    """

    def __init__(
        self,
        cohort: Cohort,
        recipe: Recipe,
        experts: Collection[str] | None = None,
    ) -> None:
        self.splitter = get_splitter(recipe.method)
        self._cohort = cohort
        self._variant = cohort.variant(recipe, experts)
        self._found = measure(cohort, [self._variant])

    def run(self, emit: EmitSplit) -> None:
        """Split every parameter.

        Args:
            emit: takes the splits, parameter by parameter and stretch by stretch.
        """
        tasks = len(self._variant.members)

        def take(_: int, block: Block, rows: Tensor) -> None:
            split = _of_rows(rows, tasks, has_factors=self.splitter.has_factors)
            emit(block.name, split)

        method = _splitting(self._variant.method, self.splitter.split)
        splitting = replace(self._variant, method=method)
        variants = {name: {0: splitting} for name in self._cohort.parameters}
        merge_pass(self._cohort, variants, self._found, take)

    def norm_factors(self) -> list[float]:
        """Measure the factor on the scale that `match_norm` asks for.

        Returns:
            One for each expert; 1 without that option.
        """
        return measure_norm_factors(self._cohort, self._variant, self._found)


def _splitting(method: Method, split: Callable[..., Split]) -> Method:
    """Make a method of what splits another's results, for the engine to run."""

    @functools.wraps(split)
    def merge(task_vectors: Tensor, *others: Tensor, **options: Option) -> Tensor:
        return _rows(task_vectors, split(task_vectors, *others, **options))

    return replace(method, merge=merge)


def _rows(task_vectors: Tensor, split: Split) -> Tensor:
    # The engine passes one tensor on: whether an entry has changed, the numbers, and
    # the masks, which carry the factors.
    each = (-1, *(1,) * (task_vectors.dim() - 1))
    masks = split.masks.to(task_vectors.dtype)
    if split.factors is not None:
        masks *= split.factors.view(each)
    changed = (task_vectors != 0).any(dim=0).to(masks.dtype)
    return torch.cat([changed[None], split.numbers, masks])


def _of_rows(rows: Tensor, tasks: int, *, has_factors: bool) -> Split:
    changed, numbers, masks = rows.split([1, len(rows) - 1 - tasks, tasks])
    factors = None
    if has_factors:  # zero for a mask that selects nothing here
        bounded = torch.nn.functional.pad(masks, (0, 1))
        factors = bounded.amax(dim=1)
    return Split(masks != 0, numbers, factors, bool(changed.any()))
