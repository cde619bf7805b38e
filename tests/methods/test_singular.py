"""Singular values and vectors against NumPy's, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods import slices, tall
from mergegrid.methods.singular import assembled, decompose, mean_value, polar, standing
from mergegrid.methods.tall import on_top, side_by_side, stored, summed, without

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


@pytest.fixture(autouse=True, params=[slices.ROWS, 2])
def _slices_are_large_or_small(request, monkeypatch):
    monkeypatch.setattr(slices, "ENTRIES", request.param)
    monkeypatch.setattr(tall, "ROWS", request.param)


def decomposed(matrix, **options):
    """Both sides' vectors, of a matrix that is turned to be tall."""
    (standing_matrix,) = standing(torch.as_tensor(matrix)[None])
    found = decompose(stored(standing_matrix), **options)
    left = held(found.left(stored(standing_matrix)))
    right = found.right.numpy()
    to_left = standing_matrix @ found.to_left()
    np.testing.assert_allclose(to_left.numpy(), left, atol=1e-10)
    is_turned = matrix.shape[0] < matrix.shape[1]
    return (
        (right, found.values.numpy(), left)
        if is_turned
        else (left, found.values.numpy(), right)
    )


@given(seed=seeds, shape=shapes)
def test_values_and_vectors_are_those_of_numpy(seed, shape):
    matrix = draw(seed, shape)
    left, values, right = decomposed(matrix)
    np.testing.assert_allclose(values, np.linalg.svd(matrix)[1], rtol=1e-9)
    np.testing.assert_allclose(left * values @ right.T, matrix, atol=1e-12)
    identity = np.eye(min(shape))
    np.testing.assert_allclose(left.T @ left, identity, atol=1e-8)
    np.testing.assert_allclose(right.T @ right, identity, atol=1e-8)


@given(seed=seeds, is_wide=st.booleans())
def test_the_smallest_values_are_as_accurate_as_is_said(seed, is_wide):
    matrix, left, right = with_values(seed, 1.0, 0.3, 1e-3, 2e-5)
    found, values, other = decomposed(matrix.T if is_wide else matrix)
    if is_wide:
        found, other = other, found
    np.testing.assert_allclose(values, [1.0, 0.3, 1e-3, 2e-5], rtol=1e-6)
    signs = np.sign(np.sum(found * left, axis=0))
    np.testing.assert_allclose(found * signs, left, atol=1e-6)
    np.testing.assert_allclose(other * signs, right, atol=1e-6)


@given(seed=seeds)
def test_values_that_count_as_zero_have_no_vectors(seed):
    left, values, right = decomposed(with_values(seed, 3.0, 1e-4, 2e-5, 1e-8)[0])
    assert values.tolist() == pytest.approx([3, 1e-4, 0, 0], rel=1e-6)
    assert (values == 0).tolist() == [False, False, True, True]
    assert not left[:, 2:].any()
    assert not right[:, 2:].any()


def test_a_floor_is_absolute_and_no_lower_than_what_can_be_resolved():
    matrix = stored(torch.tensor(with_values(0, 3.0, 1e-4, 2e-5, 1e-8)[0]))
    for floor, expected in ((1e-3, 1), (5e-5, 2), (1e-5, 3), (0.0, 3)):
        for given_floor in (floor, torch.tensor(floor).double()):
            values = decompose(matrix, floor=given_floor).values
            assert int((values > 0).sum()) == expected


def test_a_count_takes_the_largest():
    matrix = stored(torch.tensor(draw(0, (7, 5))))
    whole, part = decompose(matrix), decompose(matrix, count=2)
    for all_of_it, some in zip(whole, part, strict=True):
        torch.testing.assert_close(all_of_it[..., :2], some)


def orthogonal_factor(matrix):
    return (matrix @ polar(stored(matrix))).numpy()


@given(seed=seeds, shape=shapes)
def test_the_polar_factor_is_orthogonal_and_nearest(seed, shape):
    matrix = draw(seed, shape)
    factor = orthogonal_factor(torch.tensor(matrix))
    small = factor if shape[0] <= shape[1] else factor.T
    np.testing.assert_allclose(small @ small.T, np.eye(min(shape)), atol=1e-8)
    # What is nearest has the largest inner product, which is the nuclear norm.
    nuclear = np.linalg.norm(matrix, "nuc")
    assert np.sum(factor * matrix) == pytest.approx(nuclear, rel=1e-9)


def test_columns_that_are_zero_or_equal_have_no_part_of_their_own():
    matrix = torch.tensor(draw(0, (6, 2)))
    nothing = torch.zeros_like(matrix)
    factor = orthogonal_factor(matrix)
    padded = orthogonal_factor(torch.cat([matrix, nothing], dim=1))
    np.testing.assert_allclose(padded, np.hstack([factor, nothing]), atol=1e-8)
    twice = orthogonal_factor(torch.cat([matrix, matrix], dim=1))
    np.testing.assert_allclose(twice, np.hstack([factor, factor]) / 2**0.5, atol=1e-8)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_a_matrix_without_entries_has_no_triplets(shape):
    left, values, right = decomposed(torch.zeros(shape, dtype=torch.float64))
    assert left.shape == (shape[0], 0)
    assert values.shape == (0,)
    assert right.shape == (shape[1], 0)


# Matrices that are not held


def held(matrix):
    """The matrix, taken together from what it gives of its rows."""
    rows_of = matrix.times(None)
    parts = [rows_of(rows).clone() for rows in (slice(0), *matrix.slices())]
    return torch.cat(parts).numpy()


@given(seed=seeds, shape=st.sampled_from([(5, 3), (2, 4), (1, 1)]))
def test_what_is_computed_some_rows_at_a_time_is_what_it_says(seed, shape):
    first, second, third = draw(seed, (3, *shape))
    factor, other = draw(seed + 1, (2, shape[1], shape[1]))
    all_three = torch.tensor(np.array([first, second, third]))
    one, two = stored(all_three[0]), stored(all_three[1])
    by_factors = [one.product(torch.tensor(factor)), two.product(torch.tensor(other))]
    found = {
        "stored": (one, first),
        "summed": (summed(all_three), first + second + third),
        "on top": (on_top(all_three), np.vstack([first, second, third])),
        "side by side": (side_by_side([one, two]), np.hstack([first, second])),
        "products": (
            side_by_side(by_factors),
            np.hstack([first @ factor, second @ other]),
        ),
        "without": (without(one, two, torch.tensor(factor)), first - second @ factor),
    }
    for name, (matrix, expected) in found.items():
        assert (matrix.rows, matrix.columns) == expected.shape, name
        further = draw(seed + 2, (expected.shape[1], 4))
        product = np.zeros((len(expected), 4))
        into = torch.tensor(product)
        matrix.write(into, torch.tensor(further))
        for actual, wanted in (
            (held(matrix), expected),
            (matrix.gram(), expected.T @ expected),
            (matrix.cross(matrix), expected.T @ expected),
            (matrix.sums(), expected.sum(axis=0)),
            (matrix.norm(), np.linalg.norm(expected)),
            (
                matrix.lengths(torch.tensor(further)),
                np.linalg.norm(expected @ further, axis=0),
            ),
            (into, expected @ further),
        ):
            np.testing.assert_allclose(actual, wanted, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(one.cross(two), first.T @ second, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
def test_a_product_is_turned_back_as_the_matrices_were(shape):
    matrices = torch.tensor(draw(0, (1, *shape))).float()
    (upright,) = standing(matrices)
    assert upright.shape == (max(shape), min(shape))
    identity = torch.eye(min(shape)).double()
    product = assembled(stored(upright), identity, matrices)
    assert product.is_contiguous()
    assert torch.equal(product, matrices[0])


# Their values


def test_the_mean_is_over_values_that_count():
    values = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    assert mean_value(values) == 2
    assert mean_value(values * 0) == 0
