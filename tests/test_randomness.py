import itertools

import pytest
import torch

from mergegrid.randomness import uniform


def test_draws_are_repeated_exactly():
    first = uniform(0, "expert", "layer.weight", (3, 4))
    torch.manual_seed(123)
    assert torch.equal(uniform(0, "expert", "layer.weight", (3, 4)), first)


def test_draws_are_those_recorded():
    # A change here changes every DARE cell: raise the versions of methods that draw.
    recorded = [0.017488, 0.569091, 0.737279]
    assert uniform(7, "expert", "layer.weight", (3,)).tolist() == pytest.approx(
        recorded, abs=1e-6
    )


def test_draws_leave_global_random_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    uniform(0, "a", "b", (5,))
    assert torch.equal(torch.rand(2), expected)


def test_different_keys_have_different_draws():
    keys = [
        (0, "a", "bc"),
        (0, "ab", "c"),
        (1, "a", "bc"),
        (0, "a/2:bc", ""),
        (10, "", ""),
    ]
    for one, other in itertools.combinations(keys, 2):
        assert not torch.equal(uniform(*one, (8,)), uniform(*other, (8,)))


def test_draws_are_uniform_between_0_and_1():
    draws = uniform(0, "a", "b", (100_000,))
    assert draws.dtype is torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = torch.histc(draws, bins=10, min=0, max=1)
    assert (counts - 10_000).abs().max() < 400  # four standard deviations


def test_a_scalar_has_one_draw():
    assert uniform(0, "a", "b", ()).shape == ()
