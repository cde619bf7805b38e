"""Consensus merging against equations 8 and 9 of the paper."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.methods.consensus import METHOD, consensus
from mergegrid.methods.needs import Need
from mergegrid.methods.tall_masks import tall_masks, trimmed_balance
from mergegrid.methods.task_arithmetic import task_arithmetic
from mergegrid.methods.ties import ties

seeds = st.integers(0, 2**32 - 1)
merges = st.sampled_from(["task_arithmetic", "ties"])
comparisons = st.sampled_from(["inclusive", "strict"])


def problem(seed, number=4, shape=(3, 5), digits=None):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = torch.randn(number, *shape, generator=generator)
    if digits is not None:  # exact zeros, equal magnitudes and sums of zero
        task_vectors = (task_vectors * 2**digits).round() / 2**digits
    kept = torch.rand(number, *shape, generator=generator) < 0.4
    trimmed = task_vectors * kept
    return task_vectors, trimmed, trimmed_balance(trimmed)


def reference(
    task_vectors, trimmed, balance, merge_by, agreement, threshold, comparison
):
    kept = np.zeros(task_vectors.shape[1:])
    for place in np.ndindex(*kept.shape):
        entries = [vector[place] for vector in task_vectors]
        merged = sum(entries)
        if merge_by == "ties":
            left = [vector[place] for vector in trimmed]
            sign = np.sign(sum(left)) or (-1 if balance < 0 else 1)
            merged = sum(entry for entry in left if np.sign(entry) == sign)
        selecting = 0
        for expert, own in enumerate(entries):
            limit = threshold[expert] if isinstance(threshold, tuple) else threshold
            bound = limit * abs(merged - own)
            if comparison == "strict":
                selecting += abs(own) > bound
            else:
                selecting += abs(own) >= bound and (own != 0 or merged != 0)
        kept[place] = merged if selecting >= agreement else 0
    return kept


@given(
    seed=seeds,
    number=st.integers(1, 5),
    merge_by=merges,
    agreement=st.integers(0, 6),
    comparison=comparisons,
    threshold=st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]),
    each=st.booleans(),
    digits=st.sampled_from([None, 0, 1]),
)
def test_is_equation_8_and_9(
    seed, number, merge_by, agreement, comparison, threshold, each, digits
):
    task_vectors, trimmed, balance = problem(seed, number, digits=digits)
    if each:
        threshold = tuple(threshold + 0.1 * index for index in range(number))
    given_ = (trimmed, balance) if merge_by == "ties" else (None, None)
    found = consensus(
        task_vectors,
        *given_,
        merge_by=merge_by,
        agreement=agreement,
        mask_threshold=threshold,
        comparison=comparison,
    )
    expected = reference(
        task_vectors.double().numpy(),
        trimmed.double().numpy(),
        balance.item(),
        merge_by,
        agreement,
        threshold,
        comparison,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    assert found.dtype == torch.float32


@given(seed=seeds)
def test_without_any_agreement_it_is_the_method_underneath(seed):
    task_vectors, trimmed, balance = problem(seed)
    found = consensus(task_vectors, None, None, agreement=0)
    torch.testing.assert_close(found, task_arithmetic(task_vectors))
    found = consensus(task_vectors, trimmed, balance, merge_by="ties", agreement=0)
    expected = ties(trimmed, None, balance, aggregate="sum")
    torch.testing.assert_close(found, expected)


@given(seed=seeds, merge_by=merges)
def test_more_agreement_than_there_are_experts_is_the_pretrained_model(seed, merge_by):
    task_vectors, trimmed, balance = problem(seed)
    options = {"merge_by": merge_by, "mask_threshold": 0.0}
    found = consensus(task_vectors, trimmed, balance, agreement=5, **options)
    assert not found.any()
    assert consensus(task_vectors, trimmed, balance, agreement=4, **options).any()


@given(seed=seeds, merge_by=merges, comparison=comparisons)
def test_more_agreement_keeps_a_subset_and_changes_nothing_in_it(
    seed, merge_by, comparison
):
    task_vectors, trimmed, balance = problem(seed)
    found = [
        consensus(
            task_vectors,
            trimmed,
            balance,
            merge_by=merge_by,
            agreement=agreement,
            comparison=comparison,
        )
        for agreement in range(6)
    ]
    for more, fewer in itertools.pairwise(found):
        assert torch.equal(more[fewer != 0], fewer[fewer != 0])


@given(seed=seeds, merge_by=merges)
def test_an_agreement_of_one_keeps_what_any_task_selects(seed, merge_by):
    task_vectors, trimmed, balance = problem(seed)
    own = tall_masks(task_vectors, trimmed, balance, merge_by=merge_by)
    union = own.gather(0, own.abs().argmax(dim=0, keepdim=True))[0]
    found = consensus(task_vectors, trimmed, balance, merge_by=merge_by, agreement=1)
    assert torch.equal(found, union)


def test_one_expert_is_returned_with_an_agreement_of_one_and_lost_with_two():
    task_vectors = problem(0, number=1)[0]
    for agreement, expected in ((1, task_vectors[0]), (2, task_vectors[0] * 0)):
        found = consensus(task_vectors, None, None, agreement=agreement)
        assert torch.equal(found, expected)


@given(seed=seeds, order=st.permutations(range(4)), merge_by=merges)
def test_the_order_of_experts_does_not_matter(seed, order, merge_by):
    task_vectors, trimmed, balance = problem(seed)
    found, permuted = (
        consensus(task_vectors[rows], trimmed[rows], balance, merge_by=merge_by)
        for rows in ([0, 1, 2, 3], order)
    )
    torch.testing.assert_close(permuted, found)


@given(seed=seeds, factor=st.floats(1e-3, 1e3), merge_by=merges)
def test_it_is_equivariant_to_positive_scale(seed, factor, merge_by):
    task_vectors, trimmed, balance = problem(seed)
    found = consensus(
        task_vectors.double(), trimmed.double(), balance, merge_by=merge_by
    )
    scaled = consensus(
        factor * task_vectors.double(),
        factor * trimmed.double(),
        balance,
        merge_by=merge_by,
    )
    torch.testing.assert_close(scaled, factor * found)


@pytest.mark.parametrize("merge_by", ["task_arithmetic", "ties"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types_are_kept_and_inputs_untouched(merge_by, shape, dtype):
    task_vectors, trimmed, balance = problem(1, number=3, shape=shape)
    task_vectors, trimmed = task_vectors.to(dtype), trimmed.to(dtype)
    before = task_vectors.clone(), trimmed.clone()
    found = consensus(task_vectors, trimmed, balance, merge_by=merge_by)
    assert found.shape == shape
    assert found.dtype == dtype
    assert torch.equal(task_vectors, before[0])
    assert torch.equal(trimmed, before[1])


@pytest.mark.parametrize("agreement", [0, 1, 2])
def test_experts_that_are_the_pretrained_model_change_nothing(agreement):
    found = consensus(torch.zeros(3, 4), None, None, agreement=agreement)
    assert torch.equal(found, torch.zeros(4))


def test_a_number_of_thresholds_that_is_not_that_of_experts_is_refused():
    with pytest.raises(InputError, match="2 experts, but 3 values"):
        consensus(torch.ones(2, 3), None, None, mask_threshold=(0.1, 0.2, 0.3))


def test_the_record_asks_for_trimming_with_ties_alone():
    plain = METHOD.recipe().options
    ties_ = METHOD.recipe({"merge_by": "ties", "agreement": 1}).options
    assert METHOD.needs_of(plain) == {Need.PRETRAINED}
    assert METHOD.needs_of(ties_) == {Need.PRETRAINED, Need.TRIM}
    assert not METHOD.surveys["balance"].is_asked(plain)
    assert METHOD.surveys["balance"].is_asked(ties_)
    assert not METHOD.per_task
    with pytest.raises(UnknownNameError):
        METHOD.recipe({"weights": (1.0, 1.0)})


@pytest.mark.parametrize("agreement", [-1, 1.5])
def test_an_agreement_that_is_no_count_is_refused(agreement):
    with pytest.raises(InputError, match="consensus: agreement = "):
        METHOD.recipe({"agreement": agreement})


def test_the_best_thresholds_are_those_of_tall_masks_for_each_task():
    choice = METHOD.best["mask_threshold"]
    assert (choice.method, choice.option) == ("tall_masks", "mask_threshold")
    assert choice.per_task
    assert set(choice.alike) <= METHOD.options.model_fields.keys()
    assert "scale" not in choice.alike


@pytest.mark.parametrize("merge_by", ["task_arithmetic", "ties"])
def test_the_cost_is_in_proportion_to_the_entries(merge_by):
    options = METHOD.recipe({"merge_by": merge_by}).options
    for experts in (1, 2, 8):
        per_entry = METHOD.flops((), experts, **options)
        assert METHOD.flops((6, 7), experts, **options) == 42 * per_entry
        assert METHOD.flops((0,), experts, **options) == 0
