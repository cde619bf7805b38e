"""WUDI against least squares over the merged matrix, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.methods.regmean import regmean
from mergegrid.methods.wudi import METHOD, wudi

seeds = st.integers(0, 2**32 - 1)
numbers = st.integers(1, 4)
# The first has a regular system, those after it a singular one for few experts.
shapes = st.sampled_from([(9, 4), (3, 7), (5, 5), (1, 6), (6, 1)])


def draw(seed, experts=3, shape=(5, 6)):
    vectors = np.random.default_rng(seed).normal(size=(experts, *shape))
    return vectors.astype(np.float32).astype(float)


def rotation(seed, size):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def merged_by(vectors, dtype=torch.float64):
    return wudi(torch.tensor(vectors, dtype=dtype)).double().numpy()


def objective(merged, vectors):
    return sum(
        np.linalg.norm((merged - v) @ v.T) ** 2 / np.linalg.norm(v) ** 2
        for v in vectors
    )


def least_squares(vectors):
    """Row by row: |A t - b| over the stacked experts, from their sum."""
    start = np.sum(vectors, axis=0)
    stacked = np.concatenate([v / np.linalg.norm(v) for v in vectors])
    rows = []
    for index, row in enumerate(start):
        wanted = np.concatenate([v @ v[index] / np.linalg.norm(v) for v in vectors])
        rows.append(row + np.linalg.lstsq(stacked, wanted - stacked @ row)[0])
    return np.array(rows)


def assert_near(merged, expected, tolerance=1e-6):
    distance = np.linalg.norm(merged - expected)
    assert distance <= tolerance * np.linalg.norm(expected)


@given(seed=seeds, shape=shapes, number=numbers)
def test_minimizes_the_objective_of_the_paper_from_the_sum(seed, shape, number):
    vectors = draw(seed, number, shape)
    assert_near(merged_by(vectors, torch.float32), least_squares(vectors), 1e-5)


@given(seed=seeds)
def test_well_conditioned_systems_are_solved_to_single_precision(seed):
    vectors = draw(seed, 3, (30, 6))
    assert_near(merged_by(vectors, torch.float32), least_squares(vectors))


@given(seed=seeds, shape=shapes)
def test_nothing_near_is_better(seed, shape):
    vectors = draw(seed, 2, shape)
    merged = merged_by(vectors)
    least = objective(merged, vectors)
    for step in np.random.default_rng(seed).normal(size=(10, *shape)):
        assert objective(merged + 0.01 * step, vectors) >= least - 1e-12


@given(seed=seeds)
def test_is_regmean_on_task_vectors(seed):
    vectors = torch.tensor(draw(seed, 3, (8, 6)))
    squares = vectors.square().sum(dim=(1, 2), keepdim=True)
    grams = vectors.mT @ vectors / squares
    expected = regmean(vectors, grams, off_diagonal=1.0)
    torch.testing.assert_close(wudi(vectors), expected, rtol=1e-6, atol=1e-6)


@given(seed=seeds, shape=shapes, number=numbers)
def test_equal_experts_are_returned(seed, shape, number):
    vector = draw(seed, 1, shape)[0]
    assert_near(merged_by(np.array([vector] * number)), vector, 1e-9)


@given(seed=seeds)
def test_experts_with_orthogonal_rows_are_added_up(seed):
    turned = rotation(seed, 7)
    parts = (turned[:2], turned[2:5], turned[5:])
    vectors = np.array(
        [draw(seed + i, 1, (4, len(part)))[0] @ part for i, part in enumerate(parts)]
    )
    assert_near(merged_by(vectors), vectors.sum(axis=0), 1e-6)


@given(seed=seeds)
def test_a_task_vector_of_zeros_changes_nothing(seed):
    vectors = draw(seed)
    padded = np.concatenate([np.zeros_like(vectors[:1]), vectors])
    assert_near(merged_by(padded), merged_by(vectors))


@given(seed=seeds, factor=st.sampled_from([1e-6, 3.0, 1e6]))
def test_a_common_factor_and_the_order_of_experts_carry_over(seed, factor):
    vectors = draw(seed, 3, (12, 5))
    merged = merged_by(vectors)
    assert_near(merged_by(factor * vectors), factor * merged)
    assert_near(merged_by(vectors[::-1].copy()), merged)


@given(seed=seeds)
def test_rotations_carry_over(seed):
    vectors = draw(seed, 3, (12, 5))
    left, right = rotation(seed, 12), rotation(seed + 1, 5)
    merged = merged_by(vectors)
    assert_near(merged_by(left @ vectors @ right), left @ merged @ right)


@given(seed=seeds)
def test_the_size_of_one_task_vector_does_not_decide_for_the_others(seed):
    vectors = draw(seed, 2, (12, 5))
    grown = vectors * np.array([1e3, 1.0])[:, None, None]
    grams = [v.T @ v / np.linalg.norm(v) ** 2 for v in vectors]
    expected = 1e3 * vectors[0] @ grams[0] + vectors[1] @ grams[1]
    assert_near(merged_by(grown), expected @ np.linalg.inv(sum(grams)))


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_nothing_but_zeros_is_zero(shape):
    for number in (1, 2):
        merged = wudi(torch.zeros(number, *shape))
        assert torch.equal(merged, torch.zeros(shape))


def test_precision_is_kept_and_inputs_are_left_alone():
    vectors = torch.tensor(draw(0), dtype=torch.float32)
    before = vectors.clone()
    assert wudi(vectors).dtype == torch.float32
    assert torch.equal(vectors, before)


@pytest.mark.parametrize("shape", [(16, 11), (40, 7)])
def test_products_are_those_that_pytorch_counts(shape):
    d_out, d_in = shape
    with FlopCounterMode(display=False) as counter:
        wudi(torch.tensor(draw(0, 3, shape)))
    solving = d_in**3 // 3 + 2 * d_out * d_in**2
    element_wise = 2 * 3 * d_in**2 + (3 * 3 + 3 + 4 * 2) * d_out * d_in
    total = METHOD.flops(shape, 3)
    assert total == counter.get_total_flops() + solving + element_wise
