"""Squared norms against exact rational arithmetic."""

import pytest
import torch

from mergegrid.errors import NonFiniteError
from mergegrid.statistics.norms import norms_flops, squared_norms


def test_a_large_parameter_is_summed_in_pieces():
    entries = torch.full((3000, 3000), 2.0)
    assert squared_norms({"a": entries}) == {"a": 36_000_000.0}


def test_what_is_not_finite_is_named():
    with pytest.raises(NonFiniteError, match="bias"):
        squared_norms({"bias": torch.tensor([1.0, float("nan")])})


def test_flops_follow_the_formula():
    assert norms_flops(1000) == (2000, pytest.approx(1006.9077552789821))


def test_every_parameter_has_its_own_and_integers_have_none():
    norms = squared_norms(
        {"b": torch.ones(3), "a": torch.ones(1), "n": torch.tensor(7)}
    )
    assert list(norms.items()) == [("a", 1.0), ("b", 3.0)]
