"""Distributions against sorted lists and exact sums."""

import math
from statistics import fmean, pstdev

import pytest
import torch

from mergegrid.errors import NonFiniteError
from mergegrid.profiles import distribution
from mergegrid.profiles.distribution import (
    PER_MILLE,
    distribution_flops,
    distributions,
)


def changed(**shapes):
    generator = torch.Generator().manual_seed(0)
    before = {name: torch.randn(s, generator=generator) for name, s in shapes.items()}
    after = {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in before.items()
    }
    return after, before


@pytest.mark.parametrize("at_once", [1 << 22, 7])
def test_every_measure_is_that_of_the_entries(monkeypatch, at_once):
    monkeypatch.setattr(distribution, "ENTRIES_AT_ONCE", at_once)
    expert, pretrained = changed(w=(31, 13))
    (found,) = distributions(expert, pretrained)
    entries = sorted((expert["w"] - pretrained["w"]).flatten().tolist())
    assert found.entries == 403
    assert found.norm == pytest.approx(math.hypot(*entries), rel=1e-12)
    assert found.mean == pytest.approx(fmean(entries), rel=1e-9)
    assert found.deviation == pytest.approx(pstdev(entries), rel=1e-12)
    assert found.magnitude == pytest.approx(fmean(map(abs, entries)), rel=1e-12)


@pytest.mark.parametrize("entries", [1, 2, 3, 64, 1001])
def test_quantiles_are_the_entries_next_to_their_levels(entries):
    expert, pretrained = changed(w=(entries,))
    (found,) = distributions(expert, pretrained)
    ordered = sorted((expert["w"] - pretrained["w"]).tolist())
    for level, quantile in zip(PER_MILLE, found.quantiles, strict=True):
        place = level / 1000 * (entries - 1)
        near = {ordered[math.floor(place)], ordered[math.ceil(place)]}
        assert quantile in near
        if abs(place - round(place)) < 0.499:
            assert quantile == ordered[round(place)]
    assert found.quantiles[0] == ordered[0]
    assert found.quantiles[-1] == ordered[-1]


def test_what_nobody_changed_is_a_point_at_zero():
    _, pretrained = changed(w=(5,))
    (found,) = distributions(pretrained, pretrained)
    assert found.unchanged == 5
    assert found.norm == found.deviation == 0
    assert set(found.quantiles) == {0}


def test_parameters_come_in_the_models_order_and_nothing_else_does():
    expert, pretrained = changed(z=(2,), a=(3,), bn_running_mean=(2,))
    others = {
        "norm.running_mean": torch.ones(2),
        "ids": torch.arange(3),
        "none": torch.ones(0),
    }
    found = distributions(expert | others, others | pretrained)
    assert [one.parameter for one in found] == ["z", "a", "bn_running_mean"]


def test_what_is_not_finite_is_named():
    expert, pretrained = changed(w=(2,), v=(2,))
    broken = expert | {"v": torch.tensor([1.0, math.inf])}
    with pytest.raises(NonFiniteError, match="v"):
        list(distributions(broken, pretrained))


def test_differences_of_half_precision_are_taken_in_single():
    before = torch.tensor([1.0], dtype=torch.bfloat16)
    after = torch.tensor([1.0078125], dtype=torch.bfloat16)
    (found,) = distributions({"w": after}, {"w": before})
    assert found.norm == 0.0078125


def test_operations_are_proportional_to_entries():
    assert distribution_flops(200) == 2 * distribution_flops(100) > 0
