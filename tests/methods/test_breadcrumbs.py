"""Model Breadcrumbs against its definition, row by row."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.breadcrumbs import METHOD, breadcrumbs, mask_tails
from mergegrid.methods.task_arithmetic import task_arithmetic
from mergegrid.methods.ties import sign_balance, ties

seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(), (1,), (20,), (3, 10), (2, 2, 5), (5, 1), (0,), (0, 4)])
balance_of = METHOD.surveys["balance"].measure


def problem(seed, shape=(4, 10), experts=3, digits=None):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = torch.randn(experts, *shape, generator=generator)
    if digits is not None:  # equal magnitudes
        task_vectors = (task_vectors * 2**digits).round() / 2**digits
    return task_vectors


def masked_by_hand(row, keep_percent, outlier_percent):
    """Mask one row; whole percents, so that counts are exact."""
    length = len(row)
    first = length * outlier_percent // 100
    count = max(length * keep_percent // 100, 1)
    descending = sorted(range(length), key=lambda i: (-abs(row[i]), i))
    masked = [0.0] * length
    for index in descending[first : first + count]:
        masked[index] = row[index]
    return masked


@given(
    seed=seeds,
    shape=shapes,
    digits=st.sampled_from([None, 0]),
    keep=st.sampled_from([1, 10, 29, 70, 100]),
    outliers=st.sampled_from([0, 1, 20, 58, 99]),
    extent=st.sampled_from(["row", "tensor"]),
)
def test_it_keeps_what_is_between_the_tails(
    seed, shape, digits, keep, outliers, extent
):
    task_vectors = problem(seed, shape, digits=digits)
    masked = mask_tails(
        task_vectors, keep=keep / 100, outliers=outliers / 100, extent=extent
    )
    assert masked.dtype == task_vectors.dtype
    assert masked.shape == task_vectors.shape
    vectors = task_vectors.numpy()
    length = vectors[0].size if extent == "tensor" else (shape or (1,))[-1]
    rows = vectors.reshape(-1, length) if length else np.zeros((0, 1))
    expected = [x for row in rows.tolist() for x in masked_by_hand(row, keep, outliers)]
    assert masked.flatten().tolist() == expected


def test_a_child_could_check_this():
    row = torch.tensor([[1.0, -9.0, 3.0, 2.0, -4.0]])
    masked = mask_tails(row, keep=0.4, outliers=0.2)
    assert masked.tolist() == [[0.0, 0.0, 3.0, 0.0, -4.0]]


def test_rows_and_the_whole_tensor_differ():
    matrix = torch.tensor([[[1.0, 2.0], [30.0, 40.0]]])
    by_row = mask_tails(matrix, keep=0.5, outliers=0.0)
    assert by_row.tolist() == [[[0.0, 2.0], [0.0, 40.0]]]
    as_one = mask_tails(matrix, keep=0.5, outliers=0.0, extent="tensor")
    assert as_one.tolist() == [[[0.0, 0.0], [30.0, 40.0]]]


@given(seed=seeds, shape=shapes, extent=st.sampled_from(["row", "tensor"]))
def test_keeping_all_is_task_arithmetic(seed, shape, extent):
    task_vectors = problem(seed, shape)
    masked = mask_tails(task_vectors, keep=1.0, outliers=0.0, extent=extent)
    assert torch.equal(masked, task_vectors)
    assert torch.equal(breadcrumbs(masked, None), task_arithmetic(task_vectors))


@pytest.mark.parametrize("outliers", [0.0, 0.001])
def test_no_outliers_are_none_and_not_all(outliers):
    row = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    masked = mask_tails(row, keep=0.5, outliers=outliers)
    assert masked.tolist() == [[0.0, 0.0, 3.0, 4.0]]


def test_keeping_all_but_the_outliers_leaves_the_outliers_out():
    row = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    masked = mask_tails(row, keep=1.0, outliers=0.25)
    assert masked.tolist() == [[1.0, 2.0, 3.0, 0.0]]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 2)])
def test_no_row_loses_everything_to_rounding(shape):
    task_vectors = 1 + torch.rand(2, *shape)
    masked = mask_tails(task_vectors, keep=0.01, outliers=0.01)
    rows = masked.reshape(2, -1) if len(shape) < 2 else masked
    assert ((rows != 0).sum(dim=-1) == 1).all()


def test_a_fraction_is_the_decimal_that_it_is_written_as():
    # In binary, 0.29 * 100 is 28.999999999999996.
    row = torch.arange(1.0, 101.0)[None]
    assert (mask_tails(row, keep=0.29, outliers=0.0) != 0).sum() == 29
    assert (mask_tails(row, keep=1.0, outliers=0.29) != 0).sum() == 71


@given(seed=seeds, factor=st.sampled_from([2.0, -4.0, 0.25]))
def test_a_common_factor_goes_through(seed, factor):
    task_vectors = problem(seed)
    masked = mask_tails(factor * task_vectors)
    assert torch.equal(masked, factor * mask_tails(task_vectors))


@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_experts_does_not_matter(seed, order):
    masked = mask_tails(problem(seed))
    reordered = mask_tails(problem(seed)[order])
    assert torch.equal(reordered, masked[order])
    torch.testing.assert_close(breadcrumbs(reordered, None), breadcrumbs(masked, None))


def test_inputs_are_untouched():
    task_vectors = problem(seed=0)
    before = task_vectors.clone()
    breadcrumbs(mask_tails(task_vectors), None).fill_(7)
    assert torch.equal(task_vectors, before)


@given(seed=seeds, weights=st.sampled_from([None, (1.0, 0.5, -2.0)]))
def test_without_election_it_adds_up(seed, weights):
    masked = mask_tails(problem(seed), keep=0.5)
    merged = breadcrumbs(masked, None, weights=weights).double()
    expected = np.zeros((4, 10))
    for factor, vector in zip(
        weights or (1, 1, 1), masked.double().numpy(), strict=True
    ):
        expected += factor * vector
    np.testing.assert_allclose(merged.numpy(), expected, rtol=1e-6, atol=1e-6)


@given(
    seed=seeds,
    zero_sum=st.sampled_from(["majority", "tensor_majority", "strict", "plus"]),
    aggregate=st.sampled_from(["mean", "sum", "max"]),
    weights=st.sampled_from([None, (1.0, 0.5, 2.0)]),
)
def test_election_puts_together_what_agrees(seed, zero_sum, aggregate, weights):
    masked = mask_tails(problem(seed, digits=0), keep=0.7)
    balance = balance_of(masked, weights=weights)
    options = {"zero_sum": zero_sum, "aggregate": aggregate, "weights": weights}
    merged = breadcrumbs(masked, balance, election="mass", **options)
    factors = np.array(weights or (1.0, 1.0, 1.0))
    entries = masked.double().numpy().reshape(3, -1)
    sums = (factors[:, None] * entries).sum(axis=0)
    substitute = -1 if np.sign(sums).sum() < 0 else 1
    substitute = {"strict": 0, "plus": 1}.get(zero_sum, substitute)
    expected = np.zeros(len(sums))
    for place, total in enumerate(sums):
        sign = np.sign(total) or substitute
        chosen = [e for e in range(3) if sign * entries[e, place] > 0]
        if chosen:
            values = (factors[:, None] * entries)[chosen, place]
            expected[place] = {
                "mean": values.sum() / factors[chosen].sum(),
                "sum": values.sum(),
                "max": max(values, key=abs),
            }[aggregate]
    np.testing.assert_allclose(merged.flatten().numpy(), expected, rtol=1e-6, atol=1e-7)


@given(seed=seeds)
def test_with_election_it_is_ties_on_what_is_kept(seed):
    masked = mask_tails(problem(seed), keep=0.5)
    merged = breadcrumbs(masked, balance_of(masked), election="mass")
    assert torch.equal(merged, ties(masked, None, sign_balance(masked)))


def test_the_survey_is_taken_for_elections_alone():
    survey = METHOD.surveys["balance"]
    assert not survey.is_asked(METHOD.recipe().options)
    assert survey.is_asked(METHOD.recipe({"election": "mass"}).options)


def test_the_record_says_what_the_engine_must_know():
    options = METHOD.recipe().options
    assert not METHOD.draws(options)
    assert METHOD.is_whole_tensor(options)
    assert (options["keep"], options["outliers"], options["scale"]) == (0.1, 0.01, 1.0)


def test_each_operation_is_counted_once():
    for options, per_entry in (
        ({}, 2 * 3 + 3 + 2 + 2),
        ({"election": "mass"}, 2 * 3 + 3 + 2 * 3 + 2 + 2 * 3 + 5 + 2),
    ):
        counted = METHOD.flops((6, 7), 3, **METHOD.recipe(options).options)
        assert counted == per_entry * 42
    assert METHOD.flops((0,), 3) == 0
