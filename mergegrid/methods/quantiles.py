"""Order statistics of the whole model, from histograms that are added up.

Those of `mergegrid.statistics.halves`, taken in two surveys: one of the upper halves,
and one of the lower halves in the bins where the order statistics lie.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from jaxtyping import Float, Float64, Int32
from torch import Tensor

from mergegrid.statistics.halves import BINS, HALF, bin_of, keys, number


def count_uppers(values: Float[Tensor, "*shape"]) -> Float64[Tensor, " bin"]:
    """Count the upper halves of numbers.

    Args:
        values: some of the numbers, compared in float32.

    Returns:
        Their histogram; those of all parts add up.
    """
    return torch.bincount(_uppers(keys(values).flatten()), minlength=BINS).double()


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
    found = keys(values).flatten()
    every = _uppers(found)
    counted: list[Tensor] = []
    for rank in _ranks(int(uppers.sum()), fractions):
        upper, _ = bin_of(uppers, rank)
        lowers = found[every == upper] & (BINS - 1)
        counted.append(torch.bincount(lowers, minlength=BINS))
    return torch.stack(counted).double()


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
        upper, rest = bin_of(uppers, rank)
        lower, _ = bin_of(histogram, rest)
        found.append(number(upper - BINS // 2, lower))
    return found


def _ranks(count: int, fractions: Sequence[Fraction]) -> list[int]:
    return [min(math.floor(fraction * count), count - 1) for fraction in fractions]


def _uppers(keys: Int32[Tensor, " entry"]) -> Int32[Tensor, " entry"]:
    return (keys >> HALF) + BINS // 2
