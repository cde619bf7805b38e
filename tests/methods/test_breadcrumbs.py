"""Model Breadcrumbs against its definition, row by row."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid import merge
from mergegrid.errors import InputError
from mergegrid.methods.breadcrumbs import METHOD, breadcrumbs, mark_middle
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


def middle(task_vectors, **options):
    flat = task_vectors.reshape(len(task_vectors), -1)
    shape = tuple(task_vectors.shape[1:])
    kept = mark_middle(lambda start, stop: flat[:, start:stop], shape, **options)
    return task_vectors * kept.view_as(task_vectors)


def masked_by_hand(row, keep_percent, outlier_percent):
    """Mask one row; whole percents, so that counts are exact."""
    length = len(row)
    count = max(length * keep_percent // 100, 1)
    first = min(length * outlier_percent // 100, length - count)
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
    masked = middle(
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
    masked = middle(row, keep=0.4, outliers=0.2)
    assert masked.tolist() == [[0.0, 0.0, 3.0, 0.0, -4.0]]


def test_rows_and_the_whole_tensor_differ():
    matrix = torch.tensor([[[1.0, 2.0], [30.0, 40.0]]])
    by_row = middle(matrix, keep=0.5, outliers=0.0)
    assert by_row.tolist() == [[[0.0, 2.0], [0.0, 40.0]]]
    as_one = middle(matrix, keep=0.5, outliers=0.0, extent="tensor")
    assert as_one.tolist() == [[[0.0, 0.0], [30.0, 40.0]]]


@given(seed=seeds, shape=shapes, extent=st.sampled_from(["row", "tensor"]))
def test_keeping_all_is_task_arithmetic(seed, shape, extent):
    task_vectors = problem(seed, shape)
    masked = middle(task_vectors, keep=1.0, outliers=0.0, extent=extent)
    assert torch.equal(masked, task_vectors)
    assert torch.equal(breadcrumbs(masked, None), task_arithmetic(task_vectors))


def test_keeping_all_but_the_outliers_leaves_the_outliers_out():
    row = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    masked = middle(row, keep=0.75, outliers=0.25)
    assert masked.tolist() == [[1.0, 2.0, 3.0, 0.0]]


@pytest.mark.parametrize(("keep", "kept"), [(1.0, [1, 2, 3, 4]), (0.75, [1, 2, 3, 0])])
@pytest.mark.parametrize("extent", ["row", "tensor"])
def test_outliers_give_way_where_there_is_no_room_for_them(keep, kept, extent):
    row = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    masked = middle(row, keep=keep, outliers=0.9, extent=extent)
    assert masked.tolist() == [kept]


def test_a_fraction_is_the_decimal_that_it_is_written_as():
    # In binary, 0.29 * 100 is 28.999999999999996.
    row = torch.arange(1.0, 101.0)[None]
    assert (middle(row, keep=0.29, outliers=0.0) != 0).sum() == 29
    assert (middle(row, keep=0.71, outliers=0.29) != 0).sum() == 71
    assert middle(row, keep=0.71, outliers=0.29)[0, 71:].count_nonzero() == 0


@pytest.mark.parametrize("extent", ["row", "tensor"])
def test_fractions_may_be_each_experts_own(extent):
    task_vectors = problem(seed=0, digits=0)
    keep, outliers = (0.3, 1.0, 0.5), (0.2, 0.01, 0.0)
    masked = middle(task_vectors, keep=keep, outliers=outliers, extent=extent)
    for index in range(3):
        alone = middle(
            task_vectors[index : index + 1],
            keep=keep[index],
            outliers=outliers[index],
            extent=extent,
        )
        assert torch.equal(masked[index : index + 1], alone)


@pytest.mark.parametrize("option", ["keep", "outliers"])
def test_fractions_that_do_not_fit_the_experts_are_refused(option):
    with pytest.raises(InputError, match=f"3 experts, but 2 values of {option}"):
        middle(problem(seed=0), **{option: (0.1, 0.2)})


@pytest.mark.parametrize("extent", ["row", "tensor"])
@pytest.mark.parametrize("digits", [None, 0])
def test_a_parameter_of_many_stretches_is_marked_as_by_sorting(extent, digits):
    # More than is looked at at a time, in rows that stretches would cut.
    task_vectors = problem(seed=0, shape=(70, 3001), experts=2, digits=digits)
    masked = middle(task_vectors, keep=0.3, outliers=0.05, extent=extent)
    rows = task_vectors.view(2, -1) if extent == "tensor" else task_vectors
    order = rows.abs().argsort(dim=-1, descending=True, stable=True)
    length = rows.shape[-1]
    first, count = length * 5 // 100, length * 30 // 100
    kept = torch.zeros_like(rows, dtype=torch.bool)
    kept.scatter_(-1, order[..., first : first + count], value=True)
    assert torch.equal(masked, task_vectors * kept.view_as(task_vectors))


@pytest.mark.parametrize("extent", ["row", "tensor"])
def test_a_merge_adds_up_what_is_kept(extent):
    task_vectors = problem(seed=1, shape=(40, 3001), experts=2)
    pretrained = {"a": torch.zeros(40, 3001)}
    experts = [{"a": task_vector} for task_vector in task_vectors]
    options = {"keep": (0.3, 0.6), "outliers": 0.02, "extent": extent}
    merged = merge(experts, {"method": "breadcrumbs", "options": options}, pretrained)
    torch.testing.assert_close(
        merged["a"], middle(task_vectors, **options).sum(dim=0), rtol=0, atol=1e-6
    )


@given(seed=seeds, factor=st.sampled_from([2.0, -4.0, 0.25]))
def test_a_common_factor_goes_through(seed, factor):
    task_vectors = problem(seed)
    masked = middle(factor * task_vectors)
    assert torch.equal(masked, factor * middle(task_vectors))


@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_experts_does_not_matter(seed, order):
    masked = middle(problem(seed))
    reordered = middle(problem(seed)[order])
    assert torch.equal(reordered, masked[order])
    torch.testing.assert_close(breadcrumbs(reordered, None), breadcrumbs(masked, None))


def test_inputs_are_untouched():
    task_vectors = problem(seed=0)
    before = task_vectors.clone()
    breadcrumbs(middle(task_vectors), None).fill_(7)
    assert torch.equal(task_vectors, before)


@given(seed=seeds, weights=st.sampled_from([None, (1.0, 0.5, -2.0)]))
def test_without_election_it_adds_up(seed, weights):
    masked = middle(problem(seed), keep=0.5)
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
    masked = middle(problem(seed, digits=0), keep=0.7)
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
    masked = middle(problem(seed), keep=0.5)
    merged = breadcrumbs(masked, balance_of(masked), election="mass")
    assert torch.equal(merged, ties(masked, None, sign_balance(masked)))


def test_the_survey_is_taken_for_elections_alone():
    survey = METHOD.surveys["balance"]
    assert not survey.is_asked(METHOD.recipe().options)
    assert survey.is_asked(METHOD.recipe({"election": "mass"}).options)


def test_the_record_says_what_the_engine_must_know():
    options = METHOD.recipe().options
    assert not METHOD.draws(options)
    assert not METHOD.is_whole_tensor(options)
    assert (options["keep"], options["outliers"], options["scale"]) == (0.1, 0.01, 1.0)


def test_each_operation_is_counted_once():
    for options, per_entry in (
        ({}, 2 * 3 + 3 + 2 + 2),
        ({"election": "mass"}, 2 * 3 + 3 + 2 * 3 + 2 + 2 * 3 + 5 + 2),
    ):
        counted = METHOD.flops((6, 7), 3, **METHOD.recipe(options).options)
        assert counted == per_entry * 42
    assert METHOD.flops((0,), 3) == 0
