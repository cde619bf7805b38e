"""Order statistics of the whole model, from histograms that are added up.

The bits of float32 numbers, turned into integers, are ordered as the numbers are. A
histogram of their upper halves says in which bin the entry of a given rank lies, and
one of the lower halves in that bin says which number it is, exactly.
"""

import math
import struct
from collections.abc import Sequence
from fractions import Fraction

import torch
from jaxtyping import Float, Float64, Int32
from torch import Tensor

HALF = 16
"""Bits in half a float32, so that no histogram has more than 2^16 bins."""

BINS = 1 << HALF
"""Bins of a histogram of upper or lower halves."""

MAGNITUDE = (1 << 31) - 1
"""The bits of a float32 without that of the sign."""


def count_uppers(values: Float[Tensor, "*shape"]) -> Float64[Tensor, " bin"]:
    """Count the upper halves of numbers.

    Args:
        values: some of the numbers, compared in float32.

    Returns:
        Their histogram; those of all parts add up.
    """
    return torch.bincount(_uppers(_keys(values)), minlength=BINS).double()


def count_lowers(
    values: Float[Tensor, "*shape"],
    uppers: Float64[Tensor, " bin"],
    fractions: Sequence[Fraction],
) -> Float64[Tensor, "fraction bin"]:
    """Count the lower halves of numbers in the bins where order statistics lie.

    Args:
        values: some of the numbers.
        uppers: the histogram of the upper halves of all numbers.
        fractions: see `order_statistics`.

    Returns:
        A histogram for each fraction; those of all parts add up.
    """
    keys = _keys(values)
    every = _uppers(keys)
    found: list[Tensor] = []
    for rank in _ranks(int(uppers.sum()), fractions):
        upper, _ = _bin(uppers, rank)
        lowers = keys[every == upper] & (BINS - 1)
        found.append(torch.bincount(lowers, minlength=BINS))
    return torch.stack(found).double()


def order_statistics(
    uppers: Float64[Tensor, " bin"],
    lowers: Float64[Tensor, "fraction bin"],
    fractions: Sequence[Fraction],
) -> list[float]:
    """Find the numbers below which given fractions of all numbers lie.

    Args:
        uppers: the histogram of the upper halves of all numbers.
        lowers: those of the lower halves, from `count_lowers` with equal fractions.
        fractions: f, each in [0, 1]: of n numbers in ascending order, counted from 0,
            the one at floor(f n), for f = 1 the last.

    Returns:
        The numbers.
    """
    found: list[float] = []
    ranks = _ranks(int(uppers.sum()), fractions)
    for rank, histogram in zip(ranks, lowers, strict=True):
        upper, rest = _bin(uppers, rank)
        lower, _ = _bin(histogram, rest)
        found.append(_number(((upper - BINS // 2) << HALF) | lower))
    return found


def _ranks(count: int, fractions: Sequence[Fraction]) -> list[int]:
    return [min(math.floor(fraction * count), count - 1) for fraction in fractions]


def _keys(values: Float[Tensor, "*shape"]) -> Int32[Tensor, " entry"]:
    # Adding zero turns -0.0 into 0.0, which it is equal to. Negative numbers have the
    # bits of their magnitude turned over, so that a larger one comes earlier.
    bits = (values.float().flatten() + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & MAGNITUDE)


def _uppers(keys: Int32[Tensor, " entry"]) -> Int32[Tensor, " entry"]:
    return (keys >> HALF) + BINS // 2


def _number(key: int) -> float:
    bits = key ^ ((key >> 31) & MAGNITUDE)
    (number,) = struct.unpack("=f", struct.pack("=i", bits))
    return number


def _bin(histogram: Float64[Tensor, " bin"], rank: int) -> tuple[int, int]:
    """Find the bin of a rank, and the rank within that bin."""
    ends = histogram.cumsum(0)
    found = int(torch.searchsorted(ends, rank, right=True))
    return found, rank - int(ends[found] - histogram[found])
