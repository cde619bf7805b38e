"""Halves of float32 numbers: order statistics by counting instead of sorting.

The bits of float32 numbers, turned into integers, are ordered as the numbers are. A
histogram of their upper halves says in which bin the entry of a given rank lies, and
one of the lower halves in that bin says which number it is, exactly.
"""

import struct

import torch
from jaxtyping import Float, Int32, Num
from torch import Tensor

HALF = 16
"""Bits in half a float32, so that no histogram has more than 2^16 bins."""

BINS = 1 << HALF
"""Bins of a histogram of upper or lower halves."""

MAGNITUDE = (1 << 31) - 1
"""The bits of a float32 without that of the sign."""


def keys(values: Float[Tensor, "*shape"]) -> Int32[Tensor, "*shape"]:
    """Turn numbers into integers of the same order.

    Args:
        values: any numbers, compared in float32.

    Returns:
        The integers: of what is not negative, the bits themselves.
    """
    # Adding zero turns -0.0 into 0.0, which it is equal to. Negative numbers have the
    # bits of their magnitude turned over, so that a larger one comes earlier.
    bits = (values.float() + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & MAGNITUDE)


def number(upper: int, lower: int) -> float:
    """Turn the halves of an integer from `keys` back into a number.

    Args:
        upper: its upper half, negative for negative numbers.
        lower: its lower half.

    Returns:
        The number.
    """
    key = (upper << HALF) | lower
    (found,) = struct.unpack("=f", struct.pack("=i", key ^ ((key >> 31) & MAGNITUDE)))
    return found


def bin_of(histogram: Num[Tensor, " bin"], rank: int) -> tuple[int, int]:
    """Find the bin that the entry of a rank is in.

    Args:
        histogram: how many entries each bin has.
        rank: the entry's place in ascending order, counted from 0.

    Returns:
        The bin, and the entry's rank within it.
    """
    ends = histogram.cumsum(0)
    found = int(torch.searchsorted(ends, rank, right=True))
    return found, rank - int(ends[found] - histogram[found])
