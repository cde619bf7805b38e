"""TSV-M against singular value decompositions by NumPy, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.methods.tsv_m import METHOD, tsv_m

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(4, 7), (7, 4), (6, 6), (1, 5), (5, 1)])
numbers = st.integers(1, 4)


def draw(seed, experts=3, shape=(6, 8)):
    vectors = np.random.default_rng(seed).normal(size=(experts, *shape))
    return vectors.astype(np.float32).astype(float)


def low_rank(seed, experts=3, shape=(12, 15), rank=2):
    random = np.random.default_rng(seed)
    tall = random.normal(size=(experts, shape[0], rank))
    return tall @ random.normal(size=(experts, rank, shape[1]))


def rotation(seed, size):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def merged_by(vectors, dtype=torch.float64):
    return tsv_m(torch.tensor(vectors, dtype=dtype)).double().numpy()


def reference(vectors, is_counted=lambda _: True):
    """The paper's algorithm; experts that do not count still take up their share."""
    share = max(1, min(vectors[0].shape) // len(vectors))
    lefts, values, rights = [], [], []
    for vector in filter(is_counted, vectors):
        left, value, right = np.linalg.svd(vector, full_matrices=False)
        lefts.append(left[:, :share])
        values.extend(value[:share])
        rights.append(right[:share])
    p, _, q = np.linalg.svd(np.concatenate(lefts, axis=1), full_matrices=False)
    x, _, y = np.linalg.svd(np.concatenate(rights, axis=0), full_matrices=False)
    return p @ q @ np.diag(values) @ x @ y


def assert_near(merged, expected, tolerance=1e-6):
    distance = np.linalg.norm(merged - expected)
    assert distance <= tolerance * np.linalg.norm(expected)


@given(seed=seeds, shape=shapes, number=numbers)
def test_is_the_algorithm_of_the_paper(seed, shape, number):
    vectors = draw(seed, number, shape)
    assert_near(merged_by(vectors, torch.float32), reference(vectors))


@given(seed=seeds, shape=shapes)
def test_a_single_expert_is_returned(seed, shape):
    vectors = draw(seed, 1, shape)
    np.testing.assert_array_equal(merged_by(vectors, torch.float32), vectors[0])


@given(seed=seeds)
def test_experts_in_orthogonal_subspaces_are_added_up(seed):
    left, right = rotation(seed, 6), rotation(seed + 1, 8)
    sizes = np.diag(np.arange(6.0, 0.0, -1.0))
    vectors = np.array(
        [
            left[:, i : i + 2] @ sizes[i : i + 2, i : i + 2] @ right[:, i : i + 2].T
            for i in (0, 2, 4)
        ]
    )
    assert_near(merged_by(vectors), vectors.sum(axis=0), 1e-9)


@given(seed=seeds, shape=shapes)
def test_rotations_and_transposition_carry_over(seed, shape):
    vectors = draw(seed, 2, shape)
    left, right = rotation(seed, shape[0]), rotation(seed + 1, shape[1])
    merged = merged_by(vectors)
    assert_near(merged_by(left @ vectors @ right), left @ merged @ right)
    assert_near(merged_by(vectors.transpose(0, 2, 1)), merged.T)


@given(seed=seeds, factor=st.sampled_from([1e-6, 3.0, 1e6]))
def test_a_common_factor_and_the_order_of_experts_carry_over(seed, factor):
    vectors = draw(seed)
    merged = merged_by(vectors)
    assert_near(merged_by(factor * vectors), factor * merged)
    assert_near(merged_by(vectors[::-1].copy()), merged)


@given(seed=seeds)
def test_equal_experts_are_not_returned_but_their_largest_triplets(seed):
    vector = draw(seed, 1)[0]
    merged = merged_by(np.array([vector] * 3))
    left, values, right = np.linalg.svd(vector, full_matrices=False)
    assert_near(merged, left[:, :2] * values[:2] @ right[:2])
    assert np.linalg.norm(merged - vector) > 0.01 * np.linalg.norm(vector)


@given(seed=seeds)
def test_a_task_vector_of_zeros_takes_its_share_and_nothing_else(seed):
    vectors = draw(seed)
    vectors[1] = 0
    assert_near(merged_by(vectors), reference(vectors, np.any))


@given(seed=seeds)
def test_rounding_errors_do_not_decide_what_is_merged_of_low_rank(seed):
    vectors = low_rank(seed)
    noise = 1e-8 * np.random.default_rng(seed).normal(size=vectors.shape)
    assert_near(merged_by(vectors + noise), merged_by(vectors), 1e-5)


@given(seed=seeds, number=st.integers(3, 6))
def test_more_experts_than_the_rank_keep_one_triplet_each(seed, number):
    vectors = draw(seed, number, (2, 9))
    merged = merged_by(vectors)
    assert_near(merged, reference(vectors))
    assert np.linalg.norm(merged) > 0.1


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_nothing_but_zeros_is_zero(shape):
    for number in (1, 2):
        merged = tsv_m(torch.zeros(number, *shape))
        assert torch.equal(merged, torch.zeros(shape))


def test_precision_is_kept_and_inputs_are_left_alone():
    vectors = torch.tensor(draw(0), dtype=torch.float32)
    before = vectors.clone()
    assert tsv_m(vectors).dtype == torch.float32
    tsv_m(vectors[:1]).add_(1)
    assert torch.equal(vectors, before)


@pytest.mark.parametrize("shape", [(9, 14), (14, 9)])
def test_products_are_those_that_pytorch_counts(shape):
    vectors = torch.tensor(draw(0, 4, shape))
    with FlopCounterMode(display=False) as counter:
        tsv_m(vectors)
    columns = 4 * 2
    eigenvectors = 9 * (4 * 9**3 + 2 * columns**3)
    element_wise = (4 + 2) * 9 * 14 + columns**2
    total = METHOD.flops(shape, 4)
    assert total == counter.get_total_flops() + eigenvectors + element_wise
    assert METHOD.flops(shape, 1) == 3 * 9 * 14
