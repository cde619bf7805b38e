"""Iso-C and Iso-CTS against singular value decompositions by NumPy, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.methods import iso, iso_cts
from mergegrid.methods.iso_cts import task_rank

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(7, 12), (12, 7), (10, 10), (1, 5), (5, 1)])
numbers = st.integers(1, 4)
fractions = st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])
both = pytest.mark.parametrize("method", ["iso_c", "iso_cts"])


def draw(seed, experts=3, shape=(8, 10)):
    vectors = np.random.default_rng(seed).normal(size=(experts, *shape))
    return vectors.astype(np.float32).astype(float)


def low_rank(seed, experts=3, shape=(14, 18), rank=2):
    random = np.random.default_rng(seed)
    tall = random.normal(size=(experts, shape[0], rank))
    return tall @ random.normal(size=(experts, rank, shape[1]))


def rotation(seed, size):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def merged_by(method, vectors, dtype=torch.float64, **options):
    merge = {"iso_c": iso.iso_c, "iso_cts": iso_cts.iso_cts}[method]
    return merge(torch.tensor(vectors, dtype=dtype), **options).double().numpy()


def isotropic(vectors):
    left, values, right = np.linalg.svd(np.sum(vectors, axis=0), full_matrices=False)
    return left @ np.diag(np.full(len(values), values.mean())) @ right


def in_subspaces(vectors, fraction):
    """Iso-CTS for a sum of full rank, as the paper's algorithm goes."""
    full = min(vectors[0].shape)
    common = int(full * fraction)
    own = min(round((full - common) / len(vectors)), full // len(vectors))
    common = full - own * len(vectors)
    left, values, right = np.linalg.svd(np.sum(vectors, axis=0), full_matrices=False)
    lefts, sizes, rights = [left[:, :common]], [*values[:common]], [right[:common]]
    outside = np.eye(len(left)) - left[:, :common] @ left[:, :common].T
    for vector in vectors:
        u, s, v = np.linalg.svd(outside @ vector, full_matrices=False)
        lefts.append(u[:, :own])
        sizes.extend(s[:own])
        rights.append(v[:own])
    p, _, q = np.linalg.svd(np.concatenate(lefts, axis=1), full_matrices=False)
    x, _, y = np.linalg.svd(np.concatenate(rights, axis=0), full_matrices=False)
    return p @ q @ np.diag(np.full(full, np.mean(sizes))) @ x @ y


def spectrum(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


def assert_near(merged, expected, tolerance=1e-6):
    distance = np.linalg.norm(merged - expected)
    assert distance <= tolerance * np.linalg.norm(expected)


@given(seed=seeds, shape=shapes, number=numbers)
def test_iso_c_is_the_formula_of_the_paper(seed, shape, number):
    vectors = draw(seed, number, shape)
    assert_near(merged_by("iso_c", vectors, torch.float32), isotropic(vectors))


@given(seed=seeds, shape=shapes, number=numbers, fraction=fractions)
def test_iso_cts_is_the_algorithm_of_the_paper(seed, shape, number, fraction):
    vectors = draw(seed, number, shape)
    merged = merged_by("iso_cts", vectors, torch.float32, common_fraction=fraction)
    assert_near(merged, in_subspaces(vectors, fraction))


@given(seed=seeds)
def test_four_fifths_are_common_by_default(seed):
    vectors = draw(seed, 2, (20, 24))
    assert_near(merged_by("iso_cts", vectors), in_subspaces(vectors, 0.8))


@given(seed=seeds, shape=shapes)
def test_iso_c_keeps_the_nuclear_norm_of_the_sum(seed, shape):
    for vectors in (draw(seed, 3, shape), low_rank(seed)):
        merged = np.linalg.norm(merged_by("iso_c", vectors), "nuc")
        expected = np.linalg.norm(vectors.sum(axis=0), "nuc")
        assert merged == pytest.approx(expected, rel=1e-9)


@both
@given(seed=seeds, shape=shapes)
def test_all_singular_values_are_equal(method, seed, shape):
    values = spectrum(merged_by(method, draw(seed, 2, shape)))
    np.testing.assert_allclose(values, values[0], rtol=1e-6)


@both
@given(seed=seeds, shape=shapes)
def test_rotations_carry_over(method, seed, shape):
    vectors = draw(seed, 2, shape)
    left, right = rotation(seed, shape[0]), rotation(seed + 1, shape[1])
    merged = merged_by(method, vectors)
    assert_near(merged_by(method, left @ vectors @ right), left @ merged @ right)


@given(seed=seeds, shape=shapes)
def test_transposition_carries_over_to_iso_c_alone(seed, shape):
    vectors = draw(seed, 2, shape)
    merged = merged_by("iso_c", vectors)
    assert_near(merged_by("iso_c", vectors.transpose(0, 2, 1)), merged.T)


@both
@given(seed=seeds, factor=st.sampled_from([1e-6, 3.0, 1e6]))
def test_a_common_factor_and_the_order_of_experts_carry_over(method, seed, factor):
    vectors = draw(seed)
    merged = merged_by(method, vectors)
    assert_near(merged_by(method, factor * vectors), factor * merged)
    assert_near(merged_by(method, vectors[::-1].copy()), merged)


@given(seed=seeds, number=numbers, fraction=fractions)
def test_iso_cts_is_iso_c_where_nothing_is_task_specific(seed, number, fraction):
    vectors = draw(seed, number)
    expected = merged_by("iso_c", vectors)
    everything = merged_by("iso_cts", vectors, common_fraction=1.0)
    assert_near(everything, expected)
    # What a single expert has of its own is the rest of the sum.
    alone = merged_by("iso_cts", vectors[:1], common_fraction=fraction)
    assert_near(alone, merged_by("iso_c", vectors[:1]))


@both
@given(seed=seeds, number=numbers)
def test_neither_a_single_expert_nor_equal_ones_are_returned(method, seed, number):
    vector = draw(seed, 1)[0]
    merged = merged_by(method, np.array([vector] * number))
    assert np.linalg.norm(merged - vector) > 0.1 * np.linalg.norm(vector)
    if method == "iso_c":
        assert_near(merged, number * isotropic([vector]))


@both
@given(seed=seeds)
def test_only_directions_that_were_trained_have_weight(method, seed):
    vectors = low_rank(seed)
    values = spectrum(merged_by(method, vectors))
    np.testing.assert_allclose(values[:6], values[0], rtol=1e-6)
    np.testing.assert_allclose(values[6:], 0, atol=1e-9)


@both
@given(seed=seeds)
def test_rounding_errors_do_not_decide_what_is_merged_of_low_rank(method, seed):
    vectors = low_rank(seed)
    noise = 1e-9 * np.random.default_rng(seed).normal(size=vectors.shape)
    assert_near(merged_by(method, vectors + noise), merged_by(method, vectors), 1e-5)
    # As the paper has it, they would.
    assert np.linalg.norm(isotropic(vectors + noise) - isotropic(vectors)) > 0.1


@given(seed=seeds)
def test_a_task_vector_of_zeros_changes_nothing_about_iso_c(seed):
    vectors = draw(seed)
    padded = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    assert_near(merged_by("iso_c", padded), merged_by("iso_c", vectors))


@given(seed=seeds)
def test_a_task_vector_of_zeros_has_no_subspace_of_its_own(seed):
    vectors = draw(seed, 3, (10, 10))
    vectors[1] = 0
    # 8 dimensions are common and 1 each is left for experts 0 and 2 (7 of 10, and 1).
    values = spectrum(merged_by("iso_cts", vectors))
    assert np.isfinite(values).all()
    assert (values > 1e-3 * values[0]).sum() == 9


@both
@given(seed=seeds)
def test_rows_and_columns_that_were_never_trained_change_nothing(method, seed):
    vectors = draw(seed, 2, (10, 12))
    padded = np.pad(vectors, ((0, 0), (3, 5), (7, 0)))
    expected = np.pad(merged_by(method, vectors), ((3, 5), (7, 0)))
    assert_near(merged_by(method, padded), expected)


@given(seed=seeds)
def test_an_expert_whose_all_is_common_has_no_subspace_of_its_own(seed):
    left, right = rotation(seed, 12), rotation(seed + 1, 15)[:12]
    sizes = np.zeros((3, 12))
    sizes[0, :7] = 5  # of 10 dimensions 7 are common, and one is each expert's own
    sizes[1, 7] = 0.8
    sizes[2, 8:10] = 0.5, 0.4
    vectors = np.array([left * size @ right for size in sizes])
    values = spectrum(merged_by("iso_cts", vectors))
    np.testing.assert_allclose(values[:9], (7 * 5 + 0.8 + 0.5) / 9, rtol=1e-9)
    np.testing.assert_allclose(values[9:], 0, atol=1e-9)


@both
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_nothing_but_zeros_is_zero(method, shape):
    for number in (1, 2):
        merged = merged_by(method, np.zeros((number, *shape)))
        np.testing.assert_array_equal(merged, np.zeros(shape))


@both
def test_task_vectors_that_cancel_are_zero(method):
    vector = draw(0, 1)[0]
    merged = merged_by(method, np.array([vector, -vector]))
    np.testing.assert_array_equal(merged, np.zeros_like(vector))


@both
def test_precision_is_kept_and_inputs_are_left_alone(method):
    merge = {"iso_c": iso.iso_c, "iso_cts": iso_cts.iso_cts}[method]
    vectors = torch.tensor(draw(0), dtype=torch.float32)
    before = vectors.clone()
    assert merge(vectors).dtype == torch.float32
    assert torch.equal(vectors, before)


@pytest.mark.parametrize(
    ("rank", "experts", "fraction", "expected"),
    [
        (768, 8, 0.8, 19),  # 614 common at least, 154 / 8 = 19.25
        (10, 3, 0.8, 1),  # 2 / 3
        (10, 4, 0.8, 0),  # 2 / 4, to the even one
        (10, 4, 0.0, 2),
        (5, 3, 0.0, 1),  # 5 / 3 would be 2, and 6 of 5
        (100, 1, 0.29, 71),  # floor(29), although 0.29 * 100 < 29 in binary
        (2, 5, 0.0, 0),
        (0, 2, 0.8, 0),
    ],
)
def test_the_rank_of_subspaces_is_rounded_to_fit(rank, experts, fraction, expected):
    assert task_rank(rank, experts, fraction) == expected


@pytest.mark.parametrize("shape", [(11, 16), (16, 11)])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_products_of_iso_cts_are_those_that_pytorch_counts(shape, fraction):
    vectors = torch.tensor(draw(0, 3, shape))
    with FlopCounterMode(display=False) as counter:
        iso_cts.iso_cts(vectors, common_fraction=fraction)
    is_specific = fraction < 1
    eigenvectors = 9 * ((1 + 3 * is_specific) * 11**3 + 2 * 11**3)
    own = 11 - 11 // 2 if is_specific else 0  # of three experts together
    is_turned = shape[0] < shape[1]
    additions = 2 * (5 + 3 * 6 * (is_specific and not is_turned))
    element_wise = (additions + 3 * 3 * is_specific + 3 + 2) * 11 * 16
    element_wise += 11**2 + 4 * 16 * own
    total = iso_cts.METHOD.flops(shape, 3, common_fraction=fraction)
    assert total == counter.get_total_flops() + eigenvectors + element_wise


@pytest.mark.parametrize("shape", [(11, 16), (16, 11)])
def test_products_of_iso_c_are_those_that_pytorch_counts(shape):
    with FlopCounterMode(display=False) as counter:
        iso.iso_c(torch.tensor(draw(0, 3, shape)))
    rest = 9 * 11**3 + (3 * 2 + 3 + 2) * 11 * 16
    assert iso.METHOD.flops(shape, 3) == counter.get_total_flops() + rest
