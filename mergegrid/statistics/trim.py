"""Trim thresholds: what TIES keeps of a task vector, as one number for each density.

TIES keeps the entries of largest magnitude over the *whole* model. The magnitude of the
smallest entry kept says which they are, so that merging can go one parameter at a time.
It is found by counting, not by sorting: the bits of non-negative float32 numbers are
ordered as the numbers are, so a histogram of their upper halves, and one of the lower
halves where a threshold lies, give it exactly, for all densities together.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.parameters import Parameters, Role, role

LOWER_BITS = 16
"""Half of a float32, so that neither histogram has more than 2^16 bins."""

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


def trim_thresholds(
    task_vector: Parameters, densities: Sequence[float]
) -> dict[float, TrimThreshold]:
    """Find the magnitude at which a task vector's largest entries end.

    Args:
        task_vector: expert minus pretrained. What is no parameter - integers, running
            statistics of normalization - is passed over; magnitudes are compared in
            float32. A tied tensor belongs under one name only.
        densities: the fractions of entries to keep, each in [0, 1].

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

    (found,) = thresholds_of(blocks, 1, densities)
    return found


def thresholds_of(
    blocks: Callable[[], Iterable[tuple[str, Float[Tensor, "expert entry"]]]],
    experts: int,
    densities: Sequence[float],
) -> list[dict[float, TrimThreshold]]:
    """Find where the largest entries of several task vectors end, for each by itself.

    With n entries in all, exactly k = floor(n * density) of them are kept: those that a
    stable sort by decreasing magnitude puts first. Of equal magnitudes that is the one
    whose parameter comes first, then the one with the smaller index. A density counts
    as the decimal it is written as: 0.29 of 100 entries are 29.

    Args:
        blocks: gives, as often as it is called, the name of a parameter and magnitudes
            of a stretch of it, in order. It is called twice.
        experts: how many task vectors they are.
        densities: the fractions of entries to keep, each in [0, 1].

    Returns:
        For each expert, a threshold for each density.

    Raises:
        InputError: if a density is not in [0, 1].

    Source:
        Yadav et al., "TIES-Merging: Resolving Interference When Merging Models",
        NeurIPS 2023, arXiv:2306.01708, Algorithm 1. The authors' code keeps k + 1
        entries, and everything that equals the last of them.
    """
    for density in densities:
        if not 0 <= density <= 1:
            raise InputError(f"A density is a fraction in [0, 1], not {density}.")
    uppers, names = _count_uppers(blocks(), experts)
    entries = int(uppers[0].sum())
    if not entries:
        nothing = TrimThreshold(0.0, dict.fromkeys(names, 0))
        return [dict.fromkeys(densities, nothing) for _ in range(experts)]
    kept = {
        density: math.floor(Fraction(str(density)) * entries) for density in densities
    }
    # at_least[u]: how many entries have an upper half of u or more.
    at_least = uppers.flip(1).cumsum(1).flip(1)
    # Where nothing is kept, the threshold is the largest magnitude and all ties fall.
    found = [
        {
            density: int((counts >= max(rank, 1)).nonzero()[-1])
            for density, rank in kept.items()
        }
        for counts in at_least
    ]
    lowers = _count_lowers(blocks(), [set(by_density.values()) for by_density in found])
    return [
        {
            density: _threshold(
                lowers[expert][upper],
                upper=upper,
                rank=kept[density] - int(at_least[expert, upper + 1]),
            )
            for density, upper in by_density.items()
        }
        for expert, by_density in enumerate(found)
    ]


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


def _bits(magnitudes: Tensor) -> Int32[Tensor, "expert entry"]:
    return magnitudes.contiguous().view(torch.int32)


def _count_uppers(
    blocks: Iterable[tuple[str, Tensor]], experts: int
) -> tuple[Int[Tensor, "expert upper"], list[str]]:
    # One bin more than finite numbers need: no entry has that upper half or more.
    counts = torch.zeros(experts, UPPER_OF_INFINITY + 1, dtype=torch.int64)
    names: dict[str, None] = {}
    for name, magnitudes in blocks:
        names[name] = None
        for expert, uppers in enumerate(_bits(magnitudes) >> LOWER_BITS):
            found = torch.bincount(uppers, minlength=counts.shape[1]).cpu()
            if len(found) > counts.shape[1] or found[UPPER_OF_INFINITY]:
                raise NonFiniteError(f"The task vector's {name} holds NaN or infinity.")
            counts[expert] += found
    return counts, list(names)


class _Collected:
    """Numbers that come a few at a time, in one stretch of memory.

    Small tensors that stay, among large ones that come and go, would keep the memory
    of the large ones from being used again.
    """

    def __init__(self) -> None:
        self._room = torch.empty(1 << LOWER_BITS, dtype=torch.int32)
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
        bits = _bits(magnitudes)
        for row, of_expert in zip(bits, found, strict=True):
            for upper, collected in of_expert.items():
                lowers = row[row >> LOWER_BITS == upper] - (upper << LOWER_BITS)
                collected.add(name, lowers)
    return found


def _threshold(lowers: _Collected, *, upper: int, rank: int) -> TrimThreshold:
    """Find the entry of a rank, from 1, among those with one upper half."""
    histogram = torch.bincount(lowers.all(), minlength=1 << LOWER_BITS)
    at_least = histogram.flip(0).cumsum(0).flip(0)
    lower = int((at_least >= max(rank, 1)).nonzero()[-1])
    left = rank - int(at_least[lower] - histogram[lower])
    ties_kept: dict[str, int] = {}
    for name, values in lowers.by_name():
        ties_kept[name] = min(left, int((values == lower).sum()))
        left -= ties_kept[name]
    bits = torch.tensor((upper << LOWER_BITS) | lower, dtype=torch.int32)
    return TrimThreshold(float(bits.view(torch.float32)), ties_kept)
