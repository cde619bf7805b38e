"""Magnitude masking and magnitude pruning, the baselines of the TALL-masks paper."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods import magnitude_masking as masking
from mergegrid.methods import magnitude_pruning as pruning
from mergegrid.methods.needs import Need

seeds = st.integers(0, 2**32 - 1)
densities = st.sampled_from([0.1, 0.2, 0.5, 1.0])


def problem(seed, density, number=3, shape=(4, 5), digits=None):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = torch.randn(number, *shape, generator=generator)
    if digits is not None:
        task_vectors = (task_vectors * 2**digits).round() / 2**digits
    trimmed = torch.stack([largest(vector, density) for vector in task_vectors])
    return task_vectors, trimmed


def largest(vector, density):
    flat = vector.flatten().numpy()
    order = np.argsort(-np.abs(flat), kind="stable")
    kept = np.zeros_like(flat)
    for place in order[: math.floor(density * len(flat) + 1e-9)]:
        kept[place] = flat[place]
    return torch.tensor(kept).view(vector.shape)


@given(seed=seeds, density=densities, digits=st.sampled_from([None, 0, 1]))
def test_masking_is_the_sum_where_the_tasks_own_change_is_largest(
    seed, density, digits
):
    task_vectors, trimmed = problem(seed, density, digits=digits)
    found = masking.magnitude_masking(task_vectors, trimmed)
    exact = task_vectors.double().numpy()
    expected = np.zeros(exact.shape)
    for expert, *place in np.ndindex(*exact.shape):
        if trimmed[(expert, *place)] != 0:
            expected[expert, *place] = sum(vector[*place] for vector in exact)
    scale = np.abs(exact).sum(axis=0).max()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * scale)


@given(seed=seeds, density=densities)
def test_masking_selects_as_many_entries_as_the_density_says(seed, density):
    _, trimmed = problem(seed, density)
    selected = masking.magnitude_mask(trimmed)
    assert selected.flatten(1).sum(dim=1).tolist() == [round(20 * density)] * 3


@given(seed=seeds)
def test_a_lower_density_selects_a_subset(seed):
    masks = [
        masking.magnitude_mask(problem(seed, density)[1])
        for density in (0.1, 0.2, 0.5, 1.0)
    ]
    for fewer, more in itertools.pairwise(masks):
        assert not (fewer & ~more).any()


def test_an_entry_that_an_expert_did_not_change_is_never_its_own():
    # Two of four entries are to be kept, but only one was changed.
    task_vectors = torch.tensor([[0.0, 3.0, 0.0, 0.0], [5.0, 1.0, 0.0, 2.0]])
    trimmed = torch.stack([largest(vector, 0.5) for vector in task_vectors])
    found = masking.magnitude_masking(task_vectors, trimmed)
    assert found.tolist() == [[0, 4, 0, 0], [5, 0, 0, 2]]


@given(seed=seeds)
def test_masking_restores_one_expert_and_experts_that_change_different_entries(seed):
    alone, trimmed = problem(seed, 1.0, number=1)
    assert torch.equal(masking.magnitude_masking(alone, trimmed), alone)
    apart = torch.diag(alone.flatten())
    assert torch.equal(masking.magnitude_masking(apart, apart), apart)


def test_masking_gives_equal_experts_all_of_the_sum():
    task_vectors = problem(0, 1.0, number=1)[0].expand(3, -1, -1)
    found = masking.magnitude_masking(task_vectors, task_vectors)
    torch.testing.assert_close(found, 3 * task_vectors)


@given(seed=seeds, density=densities)
def test_pruning_is_each_experts_own_trimmed_task_vector(seed, density):
    task_vectors, trimmed = problem(seed, density)
    found = pruning.magnitude_pruning(trimmed)
    assert torch.equal(found, trimmed)
    assert found.data_ptr() != trimmed.data_ptr()
    everything = pruning.magnitude_pruning(problem(seed, 1.0)[1])
    assert torch.equal(everything, task_vectors)


@given(seed=seeds)
def test_pruning_errs_least_of_all_choices_of_as_many_entries(seed):
    task_vectors, trimmed = problem(seed, 0.2)
    error = (pruning.magnitude_pruning(trimmed) - task_vectors).flatten(1).abs().sum(1)
    smallest = task_vectors.flatten(1).abs().sort(dim=1).values[:, :16].sum(dim=1)
    torch.testing.assert_close(error, smallest)


@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_experts_is_that_of_the_result_and_nothing_else(seed, order):
    task_vectors, trimmed = problem(seed, 0.5)
    found = masking.magnitude_masking(task_vectors, trimmed)
    permuted = masking.magnitude_masking(task_vectors[order], trimmed[order])
    torch.testing.assert_close(permuted, found[order])


@pytest.mark.parametrize("shape", [(), (0,), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types_are_kept_and_inputs_untouched(shape, dtype):
    task_vectors = torch.linspace(-1, 1, 2 * math.prod(shape), dtype=dtype).view(
        2, *shape
    )
    before = task_vectors.clone()
    for found in (
        masking.magnitude_masking(task_vectors, task_vectors),
        pruning.magnitude_pruning(task_vectors),
    ):
        assert found.shape == (2, *shape)
        assert found.dtype == dtype
    assert torch.equal(task_vectors, before)


@pytest.mark.parametrize("method", [masking.METHOD, pruning.METHOD])
def test_the_records_keep_a_tenth_for_each_task(method):
    recipe = method.recipe()
    assert recipe.options["density"] == 0.1
    assert recipe.options["scale"] == 1.0
    assert method.needs_of(recipe.options) == {Need.PRETRAINED, Need.TRIM}
    assert method.per_task


@pytest.mark.parametrize("method", [masking.METHOD, pruning.METHOD])
def test_the_cost_is_in_proportion_to_the_entries(method):
    for experts in (1, 2, 8):
        per_entry = method.flops((), experts)
        assert method.flops((6, 7), experts) == 42 * per_entry
        assert method.flops((0,), experts) == 0
    assert pruning.METHOD.flops((), 8) < masking.METHOD.flops((), 8)
