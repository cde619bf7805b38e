"""Order statistics from histograms against sorting."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.quantiles import (
    count_lowers,
    count_uppers,
    order_statistics,
)

FRACTIONS = tuple(Fraction(text) for text in ("0", "0.0001", "0.29", "0.5", "0.9", "1"))
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


def from_histograms(parts, fractions=FRACTIONS):
    uppers = sum(count_uppers(part) for part in parts)
    lowers = sum(count_lowers(part, uppers, fractions) for part in parts)
    return order_statistics(uppers, lowers, fractions)


def by_sorting(values, fractions=FRACTIONS):
    ascending = sorted(values)
    count = len(ascending)
    return [ascending[min(math.floor(f * count), count - 1)] for f in fractions]


@given(values=st.lists(numbers, min_size=1, max_size=40))
def test_histograms_give_the_numbers_that_sorting_gives(values):
    tensor = torch.tensor(values)
    assert from_histograms([tensor]) == by_sorting(values)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=4),
)
def test_histograms_of_parts_add_up_to_those_of_the_whole(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(size, generator=generator) for size in [*sizes, 3]]
    assert from_histograms(parts) == by_sorting(torch.cat(parts).tolist())


def test_numbers_that_differ_in_the_last_bit_are_told_apart():
    values = torch.tensor([1.0, 1.0 + 2**-23, 1.0 + 2**-22])
    thirds = [Fraction(index, 3) for index in range(3)]
    assert from_histograms([values], thirds) == values.tolist()
    assert from_histograms([-values], thirds) == (-values).flip(0).tolist()


@pytest.mark.parametrize("zeros", [[-0.0, 0.0, 1.0], [0.0, -0.0, 1.0]])
def test_zero_has_one_sign(zeros):
    tensor = torch.tensor(zeros)
    assert from_histograms([tensor], FRACTIONS[:1]) == [0.0]
    assert count_uppers(tensor).max() == 2


def test_tensors_may_have_any_shape():
    matrix = torch.arange(6.0).view(2, 3)
    assert from_histograms([matrix, torch.tensor(9.0)]) == [0, 0, 2, 3, 9, 9]
