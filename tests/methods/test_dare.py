"""Task arithmetic, and DARE, which is task arithmetic on thinned task vectors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid import merge
from mergegrid.errors import InputError
from mergegrid.methods.dare import METHOD, thin
from mergegrid.methods.task_arithmetic import task_arithmetic

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


def drawn(seed, shape=(5, 6), number=3):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = torch.randn(number, *shape, generator=generator)
    return task_vectors, torch.rand(number, *shape, generator=generator)


def thinned_by_hand(task_vectors, uniform, drop_rate, rescale):
    vectors, draws = task_vectors.double().numpy(), uniform.numpy()
    rates = np.broadcast_to(drop_rate, len(vectors))
    thinned = np.zeros_like(vectors)
    for place in np.ndindex(vectors.shape):
        if draws[place] >= rates[place[0]]:
            thinned[place] = vectors[place]
    for expert, vector in enumerate(vectors):
        left = np.abs(thinned[expert]).sum()
        if rescale == "inverse":
            thinned[expert] /= 1 - rates[expert]
        elif rescale == "norm" and left > 0:
            thinned[expert] *= np.abs(vector).sum() / left
    return thinned


@given(
    seed=seeds,
    shape=st.sampled_from([(), (1,), (7,), (5, 6), (0,), (0, 4)]),
    drop_rate=st.sampled_from([0.0, 0.1, 0.5, 0.9, (0.0, 0.9, 0.5), (0.7, 0.1, 0.1)]),
    rescale=st.sampled_from(["inverse", "norm", "none"]),
)
def test_thinning_drops_below_the_rate_and_rescales(seed, shape, drop_rate, rescale):
    task_vectors, uniform = drawn(seed, shape)
    thinned = thin(task_vectors, uniform, drop_rate=drop_rate, rescale=rescale)
    assert thinned.dtype == task_vectors.dtype
    assert thinned.shape == task_vectors.shape
    expected = thinned_by_hand(task_vectors, uniform, drop_rate, rescale)
    np.testing.assert_allclose(thinned.double().numpy(), expected, rtol=1e-6)


@given(seed=seeds, rescale=st.sampled_from(["inverse", "norm"]))
def test_dare_adds_up_what_is_left(seed, rescale):
    task_vectors, uniform = drawn(seed)
    merged = METHOD.merge(METHOD.sparsify(task_vectors, uniform, rescale=rescale))
    expected = thinned_by_hand(task_vectors, uniform, 0.5, rescale).sum(axis=0)
    np.testing.assert_allclose(merged.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_thinning_leaves_its_inputs_alone():
    task_vectors, uniform = drawn(seed=0)
    before = task_vectors.clone(), uniform.clone()
    thin(task_vectors, uniform, drop_rate=0.0).fill_(7)
    thin(task_vectors, uniform, rescale="norm").fill_(7)
    assert torch.equal(task_vectors, before[0])
    assert torch.equal(uniform, before[1])


def test_an_entry_is_kept_if_the_draw_equals_the_rate():
    uniform = torch.tensor([[0.25, 0.5, 0.75]])
    thinned = thin(torch.ones(1, 3), uniform, drop_rate=0.5)
    assert thinned.tolist() == [[0.0, 2.0, 2.0]]


def test_rescaling_to_the_norm_keeps_the_norm_of_every_task_vector():
    generator = torch.Generator().manual_seed(0)
    task_vectors = torch.randn(2, 10, 10, generator=generator)
    uniform = torch.rand(2, 10, 10, generator=generator)
    thinned = thin(task_vectors, uniform, drop_rate=0.7, rescale="norm")
    torch.testing.assert_close(
        thinned.abs().sum(dim=(1, 2)), task_vectors.abs().sum(dim=(1, 2))
    )
    assert ((thinned == 0) == (uniform < 0.7)).all()


def test_rescaling_to_the_norm_leaves_what_is_lost_altogether_at_zero():
    thinned = thin(torch.ones(2, 3), torch.zeros(2, 3), drop_rate=0.5, rescale="norm")
    assert thinned.tolist() == [[0.0] * 3] * 2


def test_the_norm_is_of_a_whole_tensor():
    assert not METHOD.is_whole_tensor(METHOD.recipe().options)
    assert METHOD.is_whole_tensor(METHOD.recipe({"rescale": "norm"}).options)


@given(seed=seeds, weights=st.tuples(*[st.floats(-2, 2)] * 3))
def test_weights_are_factors_on_the_task_vectors(seed, weights):
    task_vectors, _ = drawn(seed)
    merged = task_arithmetic(task_vectors, weights=weights).double().numpy()
    expected = np.zeros((5, 6))
    for weight, vector in zip(weights, task_vectors.double().numpy(), strict=True):
        expected += weight * vector
    np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-6)


def test_no_weights_are_weights_of_one():
    task_vectors, _ = drawn(seed=0)
    ones = task_arithmetic(task_vectors, weights=(1.0, 1.0, 1.0))
    torch.testing.assert_close(ones, task_arithmetic(task_vectors))
    others = task_arithmetic(task_vectors, weights=(1.0, 2.0, 1.0))
    assert not torch.allclose(ones, others)


def test_weights_that_do_not_fit_the_experts_are_refused():
    task_vectors, _ = drawn(seed=0)
    with pytest.raises(InputError, match="3 experts, but 2 values of "):
        task_arithmetic(task_vectors, weights=(1.0, 1.0))
