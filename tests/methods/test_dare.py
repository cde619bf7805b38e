"""Task arithmetic, and DARE, which is task arithmetic on thinned task vectors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid import merge
from mergegrid.methods.dare import dare

seeds = st.integers(0, 2**32 - 1)


def problem(seed=0, size=50, number=3):
    generator = torch.Generator().manual_seed(seed)
    pretrained = {"a": torch.randn(size, generator=generator)}
    experts = {
        f"expert {index}": {
            "a": pretrained["a"] + torch.randn(size, generator=generator)
        }
        for index in range(number)
    }
    return experts, pretrained


def added(experts, pretrained):
    total = torch.zeros_like(pretrained["a"], dtype=torch.float64)
    for expert in experts.values():
        total += expert["a"].double() - pretrained["a"].double()
    return total


def recipe(method, **options):
    return {"method": method, "options": options}


@given(seed=seeds, scale=st.floats(-2, 2))
def test_task_arithmetic_adds_the_scaled_task_vectors(seed, scale):
    experts, pretrained = problem(seed)
    merged = merge(experts, recipe("task_arithmetic", scale=scale), pretrained)["a"]
    expected = pretrained["a"].double() + scale * added(experts, pretrained)
    torch.testing.assert_close(merged.double(), expected, rtol=1e-5, atol=1e-5)


@given(seed=seeds, number=st.integers(1, 5))
def test_task_arithmetic_at_one_over_the_number_of_experts_is_the_average(seed, number):
    experts, pretrained = problem(seed, number=number)
    merged = merge(experts, recipe("task_arithmetic", scale=1 / number), pretrained)
    average = merge(experts, "average")
    torch.testing.assert_close(merged, average, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["task_arithmetic", "dare", "ties"])
def test_a_scale_of_zero_is_the_pretrained_model(method):
    experts, pretrained = problem()
    merged = merge(experts, recipe(method, scale=0), pretrained)
    assert torch.equal(merged["a"], pretrained["a"])


def test_one_expert_at_scale_one_is_returned():
    experts, pretrained = problem(number=1)
    merged = merge(experts, recipe("task_arithmetic", scale=1), pretrained)
    torch.testing.assert_close(merged, experts["expert 0"])


@given(seed=seeds)
def test_dare_that_drops_nothing_is_task_arithmetic(seed):
    experts, pretrained = problem(seed)
    merged = merge(experts, recipe("dare", drop_rate=0), pretrained)["a"]
    assert torch.equal(merged, merge(experts, "task_arithmetic", pretrained)["a"])


@pytest.mark.parametrize("drop_rate", [0.1, 0.5, 0.9])
def test_dare_drops_the_given_share_and_rescales_the_rest(drop_rate):
    size = 20_000
    experts, pretrained = problem(size=size, number=1)
    chosen = recipe("dare", drop_rate=drop_rate, scale=1)
    change = merge(experts, chosen, pretrained)["a"] - pretrained["a"]
    task_vector = experts["expert 0"]["a"] - pretrained["a"]
    kept = change != 0
    error = math.sqrt(drop_rate * (1 - drop_rate) / size)
    assert kept.float().mean().item() == pytest.approx(1 - drop_rate, abs=4 * error)
    expected = task_vector[kept] / (1 - drop_rate)
    torch.testing.assert_close(change[kept], expected, rtol=1e-4, atol=1e-4)


def test_dare_has_the_mean_and_the_variance_of_its_definition():
    drop_rate, seeds_drawn = 0.6, 400
    experts, pretrained = problem(size=30)
    chosen = recipe("dare", drop_rate=drop_rate, scale=1)
    draws = torch.stack(
        [
            merge(experts, chosen, pretrained, seed=seed)["a"].double()
            for seed in range(seeds_drawn)
        ]
    )
    squares = sum(
        (expert["a"] - pretrained["a"]).double() ** 2 for expert in experts.values()
    )
    variance = drop_rate / (1 - drop_rate) * squares
    expected = pretrained["a"] + added(experts, pretrained)
    deviation = (draws.mean(dim=0) - expected) / (variance / seeds_drawn).sqrt()
    assert deviation.abs().max() < 4
    ratio = draws.var(dim=0) / variance
    assert ratio.mean().item() == pytest.approx(1, abs=0.1)


def test_dare_drops_more_at_a_higher_rate_and_never_less():
    experts, pretrained = problem(size=1000, number=1)
    previous = torch.ones(1000, dtype=torch.bool)
    for tenth in range(10):
        chosen = recipe("dare", drop_rate=tenth / 10, scale=1)
        kept = merge(experts, chosen, pretrained)["a"] != pretrained["a"]
        assert not (kept & ~previous).any()
        previous = kept


def test_dare_draws_depend_on_seed_expert_and_parameter():
    _, pretrained = problem(size=1000)
    moved = {"a": pretrained["a"] + 1, "b": pretrained["a"] + 1}
    base = {"a": pretrained["a"], "b": pretrained["a"].clone()}

    def kept(expert, seed):
        chosen = recipe("dare", drop_rate=0.5, scale=1)
        merged = merge({expert: moved}, chosen, base, seed=seed)
        return [merged[name] != base[name] for name in "ab"]

    masks = [*kept("x", 0), *kept("y", 0), *kept("x", 1)]
    for index, mask in enumerate(masks):
        for other in masks[:index]:
            assert (mask == other).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_rescaling_to_the_norm_keeps_the_norm_of_every_task_vector():
    generator = torch.Generator().manual_seed(0)
    task_vectors = torch.randn(1, 10, 10, generator=generator)
    uniform = torch.rand(1, 10, 10, generator=generator)
    merged = dare(task_vectors, uniform, drop_rate=0.7, rescale="norm")
    torch.testing.assert_close(merged.abs().sum(), task_vectors.abs().sum())
    assert ((merged == 0) == (uniform[0] < 0.7)).all()


def test_rescaling_to_the_norm_leaves_what_is_lost_altogether_at_zero():
    merged = dare(torch.ones(2, 3), torch.zeros(2, 3), drop_rate=0.5, rescale="norm")
    assert merged.tolist() == [0.0, 0.0, 0.0]
