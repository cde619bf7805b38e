"""Squared norms against exact rational arithmetic."""

from fractions import Fraction

import pytest
import torch

from mergegrid.errors import NonFiniteError
from mergegrid.statistics.norms import norms_flops, squared_norms


def test_squares_are_summed_in_float64():
    entries = torch.randn(1001, generator=torch.Generator().manual_seed(0)) + 100
    exact = float(sum(Fraction(value) ** 2 for value in entries.tolist()))
    norms = squared_norms({"b": entries, "a": entries[:1], "steps": torch.tensor(7)})
    assert list(norms) == ["a", "b"]
    assert norms["b"] == pytest.approx(exact, rel=1e-15)
    in_float32 = float(entries.square().sum())
    assert in_float32 != pytest.approx(exact, rel=1e-9)


def test_a_large_parameter_is_summed_in_pieces():
    entries = torch.full((3000, 3000), 2.0)
    assert squared_norms({"a": entries}) == {"a": 36_000_000.0}


def test_what_is_not_finite_is_named():
    with pytest.raises(NonFiniteError, match="bias"):
        squared_norms({"bias": torch.tensor([1.0, float("nan")])})


def test_flops_follow_the_formula():
    assert norms_flops(1000) == (2000, pytest.approx(1006.9077552789821))
