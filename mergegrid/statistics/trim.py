"""Trim thresholds: what TIES keeps of a task vector, as one number for each density.

TIES keeps the entries of largest magnitude over the *whole* model. The magnitude of the
smallest entry kept says which they are, so that merging can go one parameter at a time.
It is found by counting, not by sorting: the bits of non-negative float32 numbers are
ordered as the numbers are, so a histogram of their upper halves, and one of the lower
halves where a threshold lies, give it exactly, for all densities together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.parameters import Parameters, Role, role

LOWER_BITS = 16
"""Half of a float32, so that neither histogram has more than 2^16 bins."""

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

    With n entries in all, exactly k = floor(n * density) of them are kept: those that a
    stable sort by decreasing magnitude puts first. Of equal magnitudes that is the one
    whose parameter's name sorts first, then the one with the smaller index. A density
    counts as the decimal it is written as: 0.29 of 100 entries are 29.

    Args:
        task_vector: expert minus pretrained. What is no parameter - integers, running
            statistics of normalization - is passed over; magnitudes are compared in
            float32. A tied tensor belongs under one name only.
        densities: the fractions of entries to keep, each in [0, 1].

    Returns:
        A threshold for each density.

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
    names = [n for n in sorted(task_vector) if role(n, task_vector[n]) is Role.MERGED]
    uppers = _count_uppers(task_vector, names)
    entries = int(uppers.sum())
    if not entries:
        nothing = TrimThreshold(0.0, dict.fromkeys(names, 0))
        return dict.fromkeys(densities, nothing)
    kept = {
        density: math.floor(Fraction(str(density)) * entries) for density in densities
    }
    # at_least[u]: how many entries have an upper half of u or more.
    at_least = uppers.flip(0).cumsum(0).flip(0)
    # Where nothing is kept, the threshold is the largest magnitude and all ties fall.
    found = {
        density: int((at_least >= max(rank, 1)).nonzero()[-1])
        for density, rank in kept.items()
    }
    lowers = _count_lowers(task_vector, names, set(found.values()))
    return {
        density: _threshold(
            lowers[upper], upper=upper, rank=kept[density] - int(at_least[upper + 1])
        )
        for density, upper in found.items()
    }


def trimmed(
    task_vector: Float[Tensor, "*shape"], threshold: float, ties_kept: int | None
) -> Float[Tensor, "*shape"]:
    """Set everything to zero that is not among the model's largest entries.

    Args:
        task_vector: one parameter's part of it.
        threshold: the magnitude above which entries are kept.
        ties_kept: how many entries of exactly that magnitude are kept, those of
            smallest index; None for all of them.

    Returns:
        A new tensor of the same shape and dtype.
    """
    magnitudes = task_vector.float().abs()
    if ties_kept is None:
        return task_vector.where(magnitudes >= threshold, 0)
    kept = magnitudes > threshold
    if ties_kept:
        kept |= _first_ties(magnitudes == threshold, ties_kept)
    return task_vector.where(kept, 0)


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


def _bits(tensor: Tensor) -> Int32[Tensor, " entry"]:
    return tensor.detach().float().abs().flatten().view(torch.int32)


def _count_uppers(task_vector: Parameters, names: Sequence[str]) -> Tensor:
    # One bin more than finite numbers need: no entry has that upper half or more.
    counts = torch.zeros(UPPER_OF_INFINITY + 1, dtype=torch.int64)
    for name in names:
        uppers = _bits(task_vector[name]) >> LOWER_BITS
        found = torch.bincount(uppers, minlength=len(counts)).cpu()
        if len(found) > len(counts) or found[UPPER_OF_INFINITY]:
            raise NonFiniteError(f"The task vector's {name} holds NaN or infinity.")
        counts += found
    return counts


def _count_lowers(
    task_vector: Parameters, names: Sequence[str], uppers: set[int]
) -> dict[int, dict[str, tuple[Tensor, Tensor]]]:
    # For each upper half and parameter: the lower halves that occur, and how often.
    found: dict[int, dict[str, tuple[Tensor, Tensor]]] = {upper: {} for upper in uppers}
    for name in names:
        bits = _bits(task_vector[name])
        for upper in uppers:
            lowers = bits[(bits >> LOWER_BITS) == upper] - (upper << LOWER_BITS)
            values, counts = lowers.unique(return_counts=True)
            found[upper][name] = values.cpu(), counts.cpu()
    return found


def _threshold(
    lowers: Mapping[str, tuple[Tensor, Tensor]], *, upper: int, rank: int
) -> TrimThreshold:
    """Find the entry of a rank, from 1, among those with one upper half."""
    histogram = torch.zeros(1 << LOWER_BITS, dtype=torch.int64)
    for values, counts in lowers.values():
        histogram[values.long()] += counts
    at_least = histogram.flip(0).cumsum(0).flip(0)
    lower = int((at_least >= max(rank, 1)).nonzero()[-1])
    left = rank - int(at_least[lower] - histogram[lower])
    ties_kept: dict[str, int] = {}
    for name, (values, counts) in lowers.items():
        ties_kept[name] = min(left, int(counts[values == lower].sum()))
        left -= ties_kept[name]
    bits = torch.tensor((upper << LOWER_BITS) | lower, dtype=torch.int32)
    return TrimThreshold(float(bits.view(torch.float32)), ties_kept)


def _first_ties(
    is_tie: Bool[Tensor, "*shape"], ties_kept: int
) -> Bool[Tensor, "*shape"]:
    first = torch.zeros_like(is_tie).flatten()
    first[is_tie.flatten().nonzero()[:ties_kept, 0]] = True
    return first.view(is_tie.shape)
