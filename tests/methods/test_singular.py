"""Singular values and vectors against NumPy's, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.singular import decompose, mean_value, polar_factor

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(4, 7), (7, 4), (6, 6), (1, 5), (5, 1)])


def draw(seed, shape):
    return np.random.default_rng(seed).normal(size=shape)


def with_values(seed, *values):
    """A matrix with given singular values, and their vectors."""
    size = len(values)
    left = np.linalg.qr(draw(seed, (size + 3, size)))[0]
    right = np.linalg.qr(draw(seed + 1, (size, size)))[0]
    return left * np.array(values) @ right.T, left, right


@given(seed=seeds, shape=shapes)
def test_values_and_vectors_are_those_of_numpy(seed, shape):
    matrix = draw(seed, shape)
    left, values, right = (part.numpy() for part in decompose(torch.tensor(matrix)))
    np.testing.assert_allclose(values, np.linalg.svd(matrix)[1], rtol=1e-9)
    np.testing.assert_allclose(left * values @ right.T, matrix, atol=1e-12)
    identity = np.eye(min(shape))
    np.testing.assert_allclose(left.T @ left, identity, atol=1e-8)
    np.testing.assert_allclose(right.T @ right, identity, atol=1e-8)


@given(seed=seeds, is_wide=st.booleans())
def test_the_smallest_values_are_as_accurate_as_is_said(seed, is_wide):
    matrix, left, right = with_values(seed, 1.0, 0.3, 1e-3, 2e-5)
    given_matrix = torch.tensor(matrix.T if is_wide else matrix)
    found, values, other = (part.numpy() for part in decompose(given_matrix))
    if is_wide:
        found, other = other, found
    np.testing.assert_allclose(values, [1.0, 0.3, 1e-3, 2e-5], rtol=1e-6)
    signs = np.sign(np.sum(found * left, axis=0))
    np.testing.assert_allclose(found * signs, left, atol=1e-6)
    np.testing.assert_allclose(other * signs, right, atol=1e-6)


@given(seed=seeds)
def test_values_that_count_as_zero_have_no_vectors(seed):
    matrix = torch.tensor(with_values(seed, 3.0, 1e-4, 2e-5, 1e-8)[0])
    left, values, right = decompose(matrix)
    assert values.tolist() == pytest.approx([3, 1e-4, 0, 0], rel=1e-6)
    assert (values == 0).tolist() == [False, False, True, True]
    assert not left[:, 2:].any()
    assert not right[:, 2:].any()


def test_a_floor_is_absolute_and_no_lower_than_what_can_be_resolved():
    matrix = torch.tensor(with_values(0, 3.0, 1e-4, 2e-5, 1e-8)[0])
    for floor, expected in ((1e-3, 1), (5e-5, 2), (1e-5, 3), (0.0, 3)):
        values = decompose(matrix, floor=floor).values
        assert int((values > 0).sum()) == expected
    assert int((decompose(matrix, floor=torch.tensor(5e-5).double()).values > 0).sum())


def test_a_count_takes_the_largest():
    matrix = torch.tensor(draw(0, (5, 7)))
    whole, part = decompose(matrix), decompose(matrix, count=2)
    for all_of_it, some in zip(whole, part, strict=True):
        torch.testing.assert_close(all_of_it[..., :2], some)


@given(seed=seeds, shape=shapes)
def test_the_polar_factor_is_orthogonal_and_nearest(seed, shape):
    matrix = draw(seed, shape)
    factor = polar_factor(torch.tensor(matrix)).numpy()
    small = factor if shape[0] <= shape[1] else factor.T
    np.testing.assert_allclose(small @ small.T, np.eye(min(shape)), atol=1e-8)
    # What is nearest has the largest inner product, which is the nuclear norm.
    nuclear = np.linalg.norm(matrix, "nuc")
    assert np.sum(factor * matrix) == pytest.approx(nuclear, rel=1e-9)


def test_columns_that_are_zero_or_equal_have_no_part_of_their_own():
    matrix = torch.tensor(draw(0, (6, 2)))
    factor = polar_factor(matrix)
    padded = torch.cat([matrix, torch.zeros_like(matrix)], dim=1)
    expected = torch.cat([factor, torch.zeros_like(matrix)], dim=1)
    torch.testing.assert_close(polar_factor(padded), expected)
    twice = polar_factor(torch.cat([matrix, matrix], dim=1))
    torch.testing.assert_close(twice, torch.cat([factor, factor], dim=1) / 2**0.5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_a_matrix_without_entries_has_no_triplets(shape):
    left, values, right = decompose(torch.zeros(shape, dtype=torch.float64))
    assert left.shape == (shape[0], 0)
    assert values.shape == (0,)
    assert right.shape == (shape[1], 0)


def test_the_mean_is_over_values_that_count():
    values = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    assert mean_value(values) == 2
    assert mean_value(values * 0) == 0
