"""Trim thresholds: what TIES keeps of a task vector, as one number for each density.

TIES keeps the entries of largest magnitude over the *whole* model. The magnitude of the
smallest entry kept says which they are, so that merging can go one parameter at a time.
It is found by counting, not by sorting (`mergegrid.statistics.halves`), for all
densities together.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.parameters import Parameters, Role, role
from mergegrid.statistics.halves import BINS, HALF, bin_of, number

Key = TypeVar("Key", int, float)
"""A number of entries, or a density."""

ENTRIES_AT_ONCE = 1 << 16
"""How many entries are counted at a time: as many as the processor's cache holds."""

UPPER_OF_INFINITY = 0x7F80
"""The upper half of infinity's bits; those of finite magnitudes are smaller."""


@dataclass(frozen=True)
class TrimThreshold:
    """Which entries of a task vector are kept: those above, and some that are equal."""

    threshold: float
    """Magnitude of the smallest entry kept; if nothing is kept, of the largest."""

    ties_kept: Mapping[str, int]
    """For each parameter, how many entries of exactly that magnitude are kept."""

    cut: str | None = field(default=None, compare=False)
    """The parameter that has such entries of which only some are kept; "" if there is
    none, None if that is not known."""

    def may_cut(self, name: str) -> bool:
        """Tell whether of a parameter's entries of that magnitude some may be kept.

        Args:
            name: the parameter.

        Returns:
            Whether some, but not all of them, may be.
        """
        return bool(self.ties_kept.get(name)) and self.cut in {None, name}

    def renamed(self, names: Mapping[str, str]) -> "TrimThreshold":
        """Give the same for a model that calls some parameters otherwise.

        Args:
            names: those parameters to their other names.

        Returns:
            The same threshold.
        """
        ties_kept = {names.get(n, n): count for n, count in self.ties_kept.items()}
        cut = None if self.cut is None else names.get(self.cut, self.cut)
        return TrimThreshold(self.threshold, ties_kept, cut)


def trim_thresholds(
    task_vector: Parameters, densities: Sequence[float], *, fewest: int = 0
) -> dict[float, TrimThreshold]:
    """Find the magnitude at which a task vector's largest entries end.

    Args:
        task_vector: expert minus pretrained. What is no parameter - integers, running
            statistics of normalization - is passed over; magnitudes are compared in
            float32. A tied tensor belongs under one name only.
        densities: the fractions of entries to keep, each in [0, 1].
        fewest: how many entries are kept at least, if there are so many.

    Returns:
        A threshold for each density, see `thresholds_of`.

    Raises:
        InputError: if a density is not in [0, 1].
    """
    names = [
        name
        for name in sorted(task_vector)
        if role(name, task_vector[name].dtype) is Role.MERGED
    ]

    def blocks() -> Iterator[tuple[str, Tensor]]:
        for name in names:
            flat = task_vector[name].detach().reshape(1, -1)
            for block in flat.split(ENTRIES_AT_ONCE, dim=1):
                yield name, block.float().abs()

    (found,) = thresholds_of(blocks, [densities], fewest=fewest)
    return found


def thresholds_of(
    blocks: Callable[[], Iterable[tuple[str, Float[Tensor, "expert entry"]]]],
    densities: Sequence[Iterable[float]],
    *,
    fewest: int = 0,
) -> list[dict[float, TrimThreshold]]:
    """Find where the largest entries of several task vectors end, for each by itself.

    With n entries in all, exactly k = floor(n * density) of them are kept, see
    `thresholds_at`. A density counts as the decimal it is written as: 0.29 of 100
    entries are 29.

    Args:
        blocks: see `thresholds_at`.
        densities: for each expert, the fractions of entries to keep, each in [0, 1].
        fewest: how many entries are kept at least, if there are so many.

    Returns:
        For each expert, a threshold for each of its densities.

    Raises:
        InputError: if a density is not in [0, 1].

    Source:
        Yadav et al., "TIES-Merging: Resolving Interference When Merging Models",
        NeurIPS 2023, arXiv:2306.01708, Algorithm 1. The authors' code keeps k + 1
        entries, and everything that equals the last of them.
    """
    for density in itertools.chain.from_iterable(densities):
        if not 0 <= density <= 1:
            raise InputError(f"A density is a fraction in [0, 1], not {density}.")

    uppers, names = _count_uppers(blocks(), len(densities))
    entries = int(uppers[0].sum())

    def kept(density: float) -> int:
        count = math.floor(Fraction(str(density)) * entries)
        return max(count, min(fewest, entries))

    ranks = [{density: kept(density) for density in each} for each in densities]
    return _find(blocks, uppers, names, ranks)


def thresholds_at(
    blocks: Callable[[], Iterable[tuple[str, Float[Tensor, "expert entry"]]]],
    ranks: Sequence[Iterable[int]],
) -> list[dict[int, TrimThreshold]]:
    """Find where the k largest of several experts' magnitudes end, for each by itself.

    The k largest are those that a stable sort by decreasing magnitude puts first. Of
    equal magnitudes that is the one whose parameter comes first, then the one with the
    smaller index.

    Args:
        blocks: gives, as often as it is called, the name of a parameter and magnitudes
            of a stretch of it, in order. It is called twice.
        ranks: for each expert, its k.

    Returns:
        For each expert, a threshold for each k.
    """
    uppers, names = _count_uppers(blocks(), len(ranks))
    return _find(
        blocks, uppers, names, [{rank: rank for rank in each} for each in ranks]
    )


def keep_largest(
    task_vectors: Float[Tensor, "expert *shape"],
    name: str,
    trims: Sequence[TrimThreshold],
    ties_left: Int[Tensor, " expert"] | None,
) -> Float[Tensor, "expert *shape"]:
    """Set all but a model's largest entries to zero.

    Args:
        task_vectors: expert minus pretrained, or a stretch of it, float32.
        name: the parameter.
        trims: the threshold of each expert.
        ties_left: how many entries of exactly that magnitude each expert may still keep
            in the rest of the parameter, brought forward by those that are kept where
            it matters; None to keep all of them.

    Returns:
        New task vectors.
    """
    largest = torch.empty_like(task_vectors)
    rows = zip(largest, task_vectors, trims, strict=True)
    for expert, (into, row, trim) in enumerate(rows):
        is_cut = ties_left is not None and trim.may_cut(name)
        above = trim.threshold
        if ties_left is None or (trim.ties_kept.get(name) and not is_cut):
            above = float(np.nextafter(np.float32(above), np.float32(0)))
        # Far faster than to compare, and to multiply by what comes of it.
        torch.hardshrink(row, above, out=into)
        if ties_left is not None and is_cut and ties_left[expert]:
            flat = row.reshape(-1)
            ties = (flat.abs() == trim.threshold).nonzero()[: int(ties_left[expert]), 0]
            into.view(-1)[ties] = flat[ties]
            ties_left[expert] -= len(ties)
    return largest


class Kept(NamedTuple):
    """Which entries of a stretch are kept, and what that leaves for the next one."""

    entries: Bool[Tensor, "expert *shape"]
    """Whether each is kept."""

    ties_left: Int[Tensor, " expert"] | None
    """How many ties each expert may still keep in the rest of the parameter; None for
    all of them."""


def kept_entries(
    magnitudes: Float[Tensor, "expert *shape"],
    thresholds: Float[Tensor, " expert"],
    ties_left: Int[Tensor, " expert"] | None,
) -> Kept:
    """Tell which entries are among their model's largest.

    Args:
        magnitudes: of a stretch of one parameter, for every expert.
        thresholds: the magnitude above which entries are kept.
        ties_left: how many entries of exactly that magnitude are kept, the first ones;
            None for all of them.

    Returns:
        Whether each is kept, and the number of ties that are left.
    """
    each = (-1,) + (1,) * (magnitudes.dim() - 1)
    thresholds = thresholds.view(each)
    if ties_left is None:
        return Kept(magnitudes >= thresholds, None)
    kept = magnitudes > thresholds
    equal = magnitudes == thresholds
    # Nearly all stretches have no tie; ranking ties is slow, and needed only where some
    # of them fall.
    if not bool(equal.any()):
        return Kept(kept, ties_left)
    rows = equal.reshape(len(equal), -1)
    met = rows.sum(dim=1)
    if bool((met > ties_left).any()):
        rank = rows.cumsum(dim=1).view(equal.shape)
        equal &= rank <= ties_left.view(each)
    return Kept(kept.logical_or_(equal), (ties_left - met).clamp(min=0))


def trim_flops(entries: int, density: float) -> tuple[int, float]:
    """Count the operations of finding one expert's threshold.

    Args:
        entries: n, the number of entries of the task vector.
        density: the fraction K / n that is kept.

    Returns:
        The exact number, which is one subtraction and one magnitude for each entry (the
        histograms count in integers), and that of the Realistic Evaluation paper's
        Table 3 for one model, K n + n log K.
    """
    kept = math.floor(Fraction(str(density)) * entries)
    return 2 * entries, kept * entries + entries * math.log(max(kept, 1))


def _find(
    blocks: Callable[[], Iterable[tuple[str, Float[Tensor, "expert entry"]]]],
    uppers: Int[Tensor, "expert upper"],
    names: Iterable[str],
    ranks: Sequence[Mapping[Key, int]],
) -> list[dict[Key, TrimThreshold]]:
    entries = int(uppers[0].sum())
    if not entries:
        nothing = TrimThreshold(0.0, dict.fromkeys(names, 0), "")
        return [dict.fromkeys(by_key, nothing) for by_key in ranks]
    # Where nothing is kept, the threshold is the largest magnitude and all ties fall.
    found = [
        {key: bin_of(counts, entries - max(rank, 1)) for key, rank in by_key.items()}
        for counts, by_key in zip(uppers, ranks, strict=True)
    ]
    bins = [{upper for upper, _ in by_key.values()} for by_key in found]
    lowers = _count_lowers(blocks(), bins)
    return [
        {
            key: _threshold(of_bin[upper], upper, rest, keeps=by_rank[key] > 0)
            for key, (upper, rest) in by_key.items()
        }
        for of_bin, by_rank, by_key in zip(lowers, ranks, found, strict=True)
    ]


def _bits(magnitudes: Tensor) -> Int32[Tensor, "expert entry"]:
    return magnitudes.contiguous().view(torch.int32)


def _count_uppers(
    blocks: Iterable[tuple[str, Tensor]], experts: int
) -> tuple[Int[Tensor, "expert upper"], list[str]]:
    counts = torch.zeros(experts, UPPER_OF_INFINITY, dtype=torch.int64)
    names: dict[str, None] = {}
    for name, magnitudes in blocks:
        names[name] = None
        for expert, uppers in enumerate(_bits(magnitudes) >> HALF):
            found = torch.bincount(uppers).cpu()
            if len(found) > UPPER_OF_INFINITY:
                raise NonFiniteError(f"The task vector's {name} holds NaN or infinity.")
            counts[expert, : len(found)] += found
    return counts, list(names)


class _Collected:
    """Numbers that come a few at a time, in one stretch of memory.

    Small tensors that stay, among large ones that come and go, would keep the memory
    of the large ones from being used again.
    """

    def __init__(self) -> None:
        self._room = torch.empty(BINS, dtype=torch.int32)
        self._ends: dict[str, int] = {}
        self._end = 0

    def add(self, name: str, numbers: Tensor) -> None:
        start, self._end = self._end, self._end + len(numbers)
        if self._end > len(self._room):
            room = torch.empty(2 * self._end, dtype=torch.int32)
            room[:start] = self._room[:start]
            self._room = room
        self._room[start : self._end] = numbers
        self._ends[name] = self._end

    def all(self) -> Tensor:
        return self._room[: self._end]

    def by_name(self) -> Iterator[tuple[str, Tensor]]:
        start = 0
        for name, end in self._ends.items():
            yield name, self._room[start:end]
            start = end


def _count_lowers(
    blocks: Iterable[tuple[str, Tensor]], uppers: Sequence[set[int]]
) -> list[dict[int, _Collected]]:
    # For each expert and upper half: the lower halves that occur.
    found = [{upper: _Collected() for upper in wanted} for wanted in uppers]
    for name, magnitudes in blocks:
        # NumPy looks entries up several times faster than PyTorch.
        bits = _bits(magnitudes).cpu().numpy()
        for row, of_expert in zip(bits, found, strict=True):
            for upper, collected in of_expert.items():
                lowers = row[row >> HALF == upper] - np.int32(upper << HALF)
                collected.add(name, torch.from_numpy(lowers))
    return found


def _threshold(
    lowers: _Collected, upper: int, rank: int, *, keeps: bool
) -> TrimThreshold:
    """Find the entry of a rank in ascending order among those with one upper half."""
    histogram = torch.bincount(lowers.all(), minlength=BINS)
    lower, below = bin_of(histogram, rank)
    left = int(histogram[lower]) - below if keeps else 0
    cut = ""
    ties_kept: dict[str, int] = {}
    for name, values in lowers.by_name():
        ties = int((values == lower).sum())
        ties_kept[name] = min(left, ties)
        left -= ties_kept[name]
        if 0 < ties_kept[name] < ties:
            cut = name
    return TrimThreshold(number(upper, lower), ties_kept, cut)
