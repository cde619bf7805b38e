"""KnOTS against singular value decompositions by NumPy and loops, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.methods import slices
from mergegrid.methods.knots import METHOD, knots, trim_
from mergegrid.methods.singular import leading_eigenvectors_

seeds = st.integers(0, 2**32 - 1)
numbers = st.integers(1, 4)
# d_out is the smaller and the larger side of what stands side by side.
shapes = st.sampled_from([(4, 7), (7, 4), (30, 3), (1, 5), (5, 1)])
densities = st.sampled_from([0.1, 0.2, 0.5, 1.0])
methods = st.sampled_from(["ties", "linear"])


def draw(seed, experts=3, shape=(6, 5)):
    vectors = np.random.default_rng(seed).normal(size=(experts, *shape))
    return vectors.astype(np.float32).astype(float)


def low_rank(seed, experts=3, shape=(12, 9), rank=2):
    random = np.random.default_rng(seed)
    tall = random.normal(size=(experts, shape[0], rank))
    return tall @ random.normal(size=(experts, rank, shape[1]))


def merged_by(vectors, dtype=torch.float64, **options):
    return knots(torch.tensor(vectors, dtype=dtype), **options).double().numpy()


def reference(vectors, density=0.2):
    left, values, right = np.linalg.svd(
        np.concatenate(vectors, axis=1), full_matrices=False
    )
    kept = values > 1e-5
    left, values, right = left[:, kept], values[kept], right[kept]
    d_in = vectors[0].shape[1]
    blocks = [
        np.diag(values) @ right[:, i * d_in : (i + 1) * d_in]
        for i in range(len(vectors))
    ]
    trimmed = []
    for block in blocks:
        order = np.argsort(-np.abs(block.ravel()), kind="stable")
        result = np.zeros(block.size)
        chosen = order[: math.floor(density * block.size + 1e-9)]
        result[chosen] = block.ravel()[chosen]
        trimmed.append(result.reshape(block.shape))
    merged = np.zeros_like(blocks[0])
    for place in np.ndindex(merged.shape):
        entries = [block[place] for block in trimmed]
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [entry for entry in entries if entry * sign > 0]
        merged[place] = np.mean(agreeing) if agreeing else 0
    return left @ merged


def assert_near(merged, expected, tolerance=1e-6):
    distance = np.linalg.norm(merged - expected)
    assert distance <= tolerance * np.linalg.norm(expected)


@given(seed=seeds, shape=shapes, number=numbers, density=densities)
def test_is_the_algorithm_of_the_paper_with_ties(seed, shape, number, density):
    vectors = draw(seed, number, shape)
    merged = merged_by(vectors, torch.float32, density=density)
    assert_near(merged, reference(vectors, density))


@given(seed=seeds, density=densities)
def test_trims_entries_of_the_common_rank_alone(seed, density):
    vectors = low_rank(seed)  # of rank 6, 9 to a row
    merged = merged_by(vectors, density=density)
    assert_near(merged, reference(vectors, density))


@given(seed=seeds, shape=shapes, number=numbers)
def test_linear_is_the_mean_of_the_task_vectors(seed, shape, number):
    vectors = draw(seed, number, shape)
    merged = merged_by(vectors, torch.float32, merge_by="linear")
    np.testing.assert_allclose(merged, vectors.mean(axis=0), rtol=0, atol=1e-6)


@given(seed=seeds)
def test_linear_is_the_mean_where_the_rank_is_low(seed):
    vectors = low_rank(seed)
    merged = merged_by(vectors, merge_by="linear")
    np.testing.assert_allclose(merged, vectors.mean(axis=0), atol=1e-9)


@given(seed=seeds, shape=shapes, number=numbers)
def test_equal_experts_are_returned_by_linear_and_by_ties_that_trims_nothing(
    seed, shape, number
):
    vector = draw(seed, 1, shape)[0]
    for options in ({"merge_by": "linear"}, {"density": 1.0}):
        merged = merged_by(np.array([vector] * number), **options)
        assert_near(merged, vector, 1e-9)


@given(seed=seeds)
def test_equal_experts_are_not_returned_by_ties_that_trims(seed):
    vector = draw(seed, 1)[0]
    merged = merged_by(np.array([vector] * 3))
    assert np.linalg.norm(merged - vector) > 0.1 * np.linalg.norm(vector)
    assert_near(merged, merged_by(vector[None]), 1e-9)


@given(seed=seeds)
def test_a_task_vector_of_zeros_changes_nothing_about_ties(seed):
    vectors = draw(seed, 3, (30, 3))  # zeros must stay exact, whichever side is larger
    padded = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    assert_near(merged_by(padded), merged_by(vectors))
    expected = 0.75 * vectors.mean(axis=0)
    assert_near(merged_by(padded, merge_by="linear"), expected)


@given(seed=seeds, merge_by=methods)
def test_order_of_experts_sign_and_rotation_of_outputs_carry_over(seed, merge_by):
    vectors = draw(seed)
    merged = merged_by(vectors, merge_by=merge_by)
    assert_near(merged_by(vectors[::-1].copy(), merge_by=merge_by), merged)
    assert_near(merged_by(-vectors, merge_by=merge_by), -merged)
    turned = np.linalg.qr(draw(seed + 1, 1, (6, 6))[0])[0]
    assert_near(merged_by(turned @ vectors, merge_by=merge_by), turned @ merged)


def test_transposed_task_vectors_are_aligned_differently():
    vectors = draw(0)
    turned = merged_by(vectors.transpose(0, 2, 1).copy()).T
    assert np.linalg.norm(turned - merged_by(vectors)) > 0.1


@given(seed=seeds)
def test_tiny_singular_values_are_left_out(seed):
    random = np.random.default_rng(seed)
    left = np.linalg.qr(random.normal(size=(6, 6)))[0]
    right = np.linalg.qr(random.normal(size=(10, 10)))[0]
    values = np.array([0.1, 0.05, 2e-5, 9e-6, 3e-6, 0.0])
    both = left * values @ right[:6]
    vectors = np.array([both[:, :5], both[:, 5:]])
    merged = merged_by(vectors, merge_by="linear")
    kept = left[:, :3] @ left[:, :3].T @ vectors.mean(axis=0)
    np.testing.assert_allclose(merged, kept, atol=1e-9)
    assert np.linalg.norm(vectors.mean(axis=0) - kept) > 1e-7


@pytest.mark.parametrize("shape", [(6, 5), (30, 3)])
def test_where_task_vectors_cancel_the_signs_of_the_basis_do_not_matter(
    monkeypatch, shape
):
    vector = draw(0, 1, shape)[0]
    vectors = np.array([vector, -vector])
    merged = merged_by(vectors, density=1.0)
    assert np.linalg.norm(merged) > 0.1
    linear = merged_by(vectors, merge_by="linear")
    np.testing.assert_allclose(linear, 0, atol=1e-12)

    def flipped(*arguments):
        return -leading_eigenvectors_(*arguments)

    for module in ("knots", "singular"):
        name = f"mergegrid.methods.{module}.leading_eigenvectors_"
        monkeypatch.setattr(name, flipped)
    assert_near(merged_by(vectors, density=1.0), merged)


def test_defaults_are_those_of_the_authors():
    options = METHOD.recipe().options
    assert (options["merge_by"], options["density"]) == ("ties", 0.2)
    assert options["scale"] == 0.6
    vectors = draw(0, 3, (12, 10))
    assert_near(merged_by(vectors), reference(vectors, 0.2))


def trimmed(entries, density):
    kept = entries.clone()
    trim_(kept, density)
    return kept


def test_exactly_the_count_is_kept_and_of_equal_entries_the_first(monkeypatch):
    entries = torch.tensor([[[2.0, -1.0], [1.0, 1.0]], [[1.0, 3.0], [-3.0, 0.0]]])
    for at_once in (slices.ENTRIES, 1):
        monkeypatch.setattr(slices, "ENTRIES", at_once)
        kept = trimmed(entries, 0.5)
        assert kept.tolist() == [[[2, -1], [0, 0]], [[0, 3], [-3, 0]]]
        assert trimmed(entries, 0.75).tolist()[0] == [[2, -1], [1, 0]]
        assert trimmed(entries, 1.0).tolist() == entries.tolist()
        assert not trimmed(entries, 0.2).any()


def test_a_density_is_the_decimal_that_it_is_written_as():
    entries = torch.arange(1.0, 101.0).view(1, 10, 10)
    assert int((trimmed(entries, 0.29) != 0).sum()) == 29


@pytest.mark.parametrize("merge_by", ["ties", "linear"])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0)])
def test_nothing_but_zeros_is_zero(merge_by, shape):
    for number in (1, 2):
        merged = knots(torch.zeros(number, *shape), merge_by=merge_by)
        assert torch.equal(merged, torch.zeros(shape))


def test_precision_is_kept_and_inputs_are_left_alone():
    vectors = torch.tensor(draw(0), dtype=torch.float32)
    before = vectors.clone()
    assert knots(vectors).dtype == torch.float32
    assert torch.equal(vectors, before)


@pytest.mark.parametrize("shape", [(9, 14), (50, 5)])
@pytest.mark.parametrize(("merge_by", "each"), [("linear", 3), ("ties", 25)])
def test_products_are_those_that_pytorch_counts(shape, merge_by, each):
    d_out, d_in = shape
    with FlopCounterMode(display=False) as counter:
        knots(torch.tensor(draw(0, 3, shape)), merge_by=merge_by)
    rank = min(d_out, 3 * d_in)
    rest = 9 * rank**3 + each * rank * d_in + (3 + 2) * d_out * d_in
    if d_out > 3 * d_in:  # what decides on signs
        rest += 3 * d_out * d_in
    total = METHOD.flops(shape, 3, merge_by=merge_by)
    assert total == counter.get_total_flops() + rest
