"""TALL-masks against equation 5 of the paper, and against every other mask there is."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.methods.needs import Need
from mergegrid.methods.tall_masks import (
    METHOD,
    multi_task_vector,
    tall_mask,
    tall_masks,
    trimmed_balance,
)

seeds = st.integers(0, 2**32 - 1)
comparisons = st.sampled_from(["inclusive", "strict"])
thresholds = st.floats(0, 2)


def problem(seed, number=4, shape=(3, 5), digits=None):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = torch.randn(number, *shape, generator=generator)
    if digits is not None:  # exact zeros, equal magnitudes and sums of zero
        task_vectors = (task_vectors * 2**digits).round() / 2**digits
    kept = torch.rand(number, *shape, generator=generator) < 0.4
    return task_vectors, task_vectors * kept


def reference_merged(task_vectors, trimmed, balance, merge_by):
    merged = np.zeros(task_vectors.shape[1:])
    for place in np.ndindex(*merged.shape):
        if merge_by == "task_arithmetic":
            merged[place] = sum(vector[place] for vector in task_vectors)
            continue
        entries = [vector[place] for vector in trimmed]
        sign = np.sign(sum(entries))
        if sign == 0:
            sign = -1 if balance < 0 else 1
        merged[place] = sum(entry for entry in entries if np.sign(entry) == sign)
    return merged


def reference_masks(task_vectors, merged, threshold, comparison):
    masks = np.zeros(task_vectors.shape, dtype=bool)
    for expert, *place in np.ndindex(*task_vectors.shape):
        own, all_ = task_vectors[expert, *place], merged[*place]
        limit = threshold[expert] if isinstance(threshold, tuple) else threshold
        if comparison == "strict":
            masks[expert, *place] = abs(own) > limit * abs(all_ - own)
        elif own != 0 or all_ != 0:
            masks[expert, *place] = abs(own) >= limit * abs(all_ - own)
    return masks


def numpied(tensor):
    return tensor.double().numpy()


@given(
    seed=seeds,
    number=st.integers(1, 5),
    merge_by=st.sampled_from(["task_arithmetic", "ties"]),
    comparison=comparisons,
    threshold=st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]),
    each=st.booleans(),
    digits=st.sampled_from([None, 0, 1]),
    balance=st.sampled_from([-3.0, 0.0, 2.0]),
)
def test_is_equation_5_and_6(
    seed, number, merge_by, comparison, threshold, each, digits, balance
):
    task_vectors, trimmed = problem(seed, number, digits=digits)
    if each:
        threshold = tuple(threshold + 0.1 * index for index in range(number))
    is_ties = merge_by == "ties"
    found = tall_masks(
        task_vectors,
        trimmed if is_ties else None,
        torch.tensor(balance, dtype=torch.float64) if is_ties else None,
        merge_by=merge_by,
        mask_threshold=threshold,
        comparison=comparison,
    )
    merged = reference_merged(
        numpied(task_vectors), numpied(trimmed), balance, merge_by
    )
    masks = reference_masks(numpied(task_vectors), merged, threshold, comparison)
    np.testing.assert_allclose(found, masks * merged, rtol=1e-6, atol=1e-12)
    assert found.dtype == torch.float32


@given(seed=seeds)
def test_at_a_threshold_of_one_no_other_mask_is_nearer_in_l1_or_in_l2(seed):
    task_vectors, _ = problem(seed, number=3, shape=(6,))
    merged = task_vectors.double().sum(dim=0)
    masks = tall_mask(task_vectors, merged, mask_threshold=1.0)
    every = torch.tensor([*itertools.product([0.0, 1.0], repeat=6)])
    for order in (1, 2):
        for own, mask in zip(task_vectors, masks, strict=True):
            distance = torch.linalg.vector_norm(mask * merged - own, order)
            others = torch.linalg.vector_norm(every * merged - own, order, dim=1)
            assert distance <= others.min() + 1e-12
    nearer = tall_mask(task_vectors, merged, mask_threshold=0.3)
    assert (nearer * merged - task_vectors).abs().sum() >= (
        masks * merged - task_vectors
    ).abs().sum() - 1e-12


@given(seed=seeds, one=thresholds, other=thresholds, comparison=comparisons)
def test_a_smaller_threshold_selects_a_superset(seed, one, other, comparison):
    task_vectors, _ = problem(seed, digits=1)
    merged = task_vectors.sum(dim=0)
    more, fewer = (
        tall_mask(task_vectors, merged, mask_threshold=threshold, comparison=comparison)
        for threshold in sorted((one, other))
    )
    assert not (fewer & ~more).any()


def test_a_threshold_of_zero_selects_what_anybody_changed_or_what_the_task_did():
    task_vectors = torch.tensor([[1.0, 0.0, 0.0], [-2.0, 3.0, 0.0]])
    merged = task_vectors.sum(dim=0)
    masks = tall_mask(task_vectors, merged, mask_threshold=0.0)
    assert masks.tolist() == [[True, True, False]] * 2
    strict = tall_mask(task_vectors, merged, mask_threshold=0.0, comparison="strict")
    assert torch.equal(strict, task_vectors != 0)


@given(seed=seeds, factor=st.floats(1e-3, 1e3), threshold=thresholds)
def test_task_vectors_of_another_length_are_masked_alike(seed, factor, threshold):
    task_vectors, _ = problem(seed)
    task_vectors = task_vectors.double()  # a product is rounded less often than a mask
    found = tall_masks(task_vectors, None, None, mask_threshold=threshold)
    scaled = tall_masks(factor * task_vectors, None, None, mask_threshold=threshold)
    torch.testing.assert_close(scaled, factor * found)
    opposite = tall_masks(-task_vectors, None, None, mask_threshold=threshold)
    assert torch.equal(opposite, -found)


@given(seed=seeds, threshold=thresholds, comparison=comparisons)
def test_one_expert_is_restored_exactly(seed, threshold, comparison):
    task_vectors, _ = problem(seed, number=1, digits=3)
    found = tall_masks(
        task_vectors, None, None, mask_threshold=threshold, comparison=comparison
    )
    assert torch.equal(found, task_vectors)


def test_of_three_equal_experts_each_has_everything_up_to_a_threshold_of_one_half():
    task_vectors = problem(0, number=1)[0].expand(3, -1, -1)
    for threshold, factor in ((0.45, 3), (0.55, 0)):
        found = tall_masks(task_vectors, None, None, mask_threshold=threshold)
        torch.testing.assert_close(found, factor * task_vectors)


def test_experts_that_change_different_entries_are_all_restored():
    task_vectors = torch.eye(4)
    assert torch.equal(tall_masks(task_vectors, None, None), task_vectors)


@given(seed=seeds, order=st.permutations(range(4)))
def test_the_order_of_experts_is_that_of_the_result_and_nothing_else(seed, order):
    task_vectors, _ = problem(seed, digits=8)
    limits = (0.2, 0.4, 0.6, 1.0)
    found = tall_masks(task_vectors, None, None, mask_threshold=limits)
    permuted = tall_masks(
        task_vectors[order],
        None,
        None,
        mask_threshold=tuple(limits[index] for index in order),
    )
    assert torch.equal(permuted, found[order])


@given(seed=seeds, comparison=comparisons)
def test_a_threshold_for_each_expert_is_as_one_for_all_where_it_is_the_same(
    seed, comparison
):
    task_vectors, _ = problem(seed)
    limits = (0.2, 0.9, 0.4, 0.0)
    both = [
        tall_masks(
            task_vectors, None, None, mask_threshold=limit, comparison=comparison
        )
        for limit in (limits, *limits)
    ]
    for expert, found in enumerate(both[1:]):
        assert torch.equal(both[0][expert], found[expert])


@pytest.mark.parametrize("limits", [(), (0.4,), (0.4, 0.4, 0.4)])
def test_a_number_of_thresholds_that_is_not_that_of_experts_is_refused(limits):
    with pytest.raises(InputError, match=f"2 experts, but {len(limits)} value"):
        tall_masks(torch.ones(2, 3), None, None, mask_threshold=limits)


@given(seed=seeds, threshold=thresholds)
def test_inclusive_and_strict_differ_on_exact_equality_alone(seed, threshold):
    task_vectors, _ = problem(seed, digits=1)
    merged = task_vectors.double().sum(dim=0)
    inclusive, strict = (
        tall_mask(task_vectors, merged, mask_threshold=threshold, comparison=comparison)
        for comparison in ("inclusive", "strict")
    )
    equal = task_vectors.abs() == threshold * (merged - task_vectors.double()).abs()
    assert not (strict & ~inclusive).any()
    assert not ((strict != inclusive) & ~equal).any()


def test_masks_of_ties_are_for_task_vectors_that_are_not_trimmed():
    task_vectors = torch.tensor([[1.0, -3.0], [2.0, 0.5]])
    trimmed = torch.tensor([[0.0, -3.0], [2.0, 0.0]])
    balance = trimmed_balance(trimmed)
    assert balance.item() == 0
    found = tall_masks(task_vectors, trimmed, balance, merge_by="ties")
    # The first expert has 1 of a merged 2, which it trimmed itself.
    assert found.tolist() == [[2.0, -3.0], [2.0, 0.0]]


def test_where_trimmed_task_vectors_cancel_ties_takes_the_majoritys_sign():
    trimmed = torch.tensor([[1.0], [-1.0]])
    for balance, expected in ((-1.0, -1.0), (0.0, 1.0), (1.0, 1.0)):
        counted = torch.tensor(balance, dtype=torch.float64)
        merged = multi_task_vector(trimmed, trimmed, counted, merge_by="ties")
        assert merged.item() == expected


def test_masks_are_decided_before_anything_is_rounded():
    task_vectors = torch.tensor([[2.0**23], [2.0**23 + 1]])  # the sum is no float32
    found = tall_masks(task_vectors, None, None, mask_threshold=1.0)
    assert (found != 0).tolist() == [[False], [True]]


def test_the_sum_does_not_depend_on_the_order_of_experts():
    # In float32, 0.1 + 0.2 - 0.3 is zero in one order and 3e-8 in another.
    task_vectors = torch.tensor([[0.1], [0.2], [-0.3]])
    orders = [*itertools.permutations(range(3))]
    found = [
        multi_task_vector(task_vectors[[*order]], None, None).item() for order in orders
    ]
    assert len(set(found)) == 1


@pytest.mark.parametrize("merge_by", ["task_arithmetic", "ties"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (7,), (2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_types_are_kept_and_inputs_untouched(merge_by, shape, dtype):
    task_vectors, trimmed = (t.to(dtype) for t in problem(1, number=2, shape=shape))
    before = task_vectors.clone(), trimmed.clone()
    balance = trimmed_balance(trimmed)
    found = tall_masks(
        task_vectors, trimmed, balance, merge_by=merge_by, mask_threshold=(0.3, 0.6)
    )
    assert found.shape == (2, *shape)
    assert found.dtype == dtype
    assert torch.equal(task_vectors, before[0])
    assert torch.equal(trimmed, before[1])


@pytest.mark.parametrize("merge_by", ["task_arithmetic", "ties"])
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_experts_that_are_the_pretrained_model_have_nothing(merge_by, threshold):
    zeros = torch.zeros(3, 4)
    found = tall_masks(
        zeros,
        zeros,
        trimmed_balance(zeros),
        merge_by=merge_by,
        mask_threshold=threshold,
    )
    assert not found.any()
    masks = tall_mask(zeros, zeros[0], mask_threshold=threshold)
    assert not masks.any()


@given(seed=seeds)
def test_entries_are_masked_each_by_itself(seed):
    task_vectors, _ = problem(seed)
    flat = task_vectors.flatten(1)
    parts = [tall_masks(part, None, None) for part in flat.split(4, dim=1)]
    whole = tall_masks(task_vectors, None, None)
    assert torch.equal(torch.cat(parts, dim=1), whole.flatten(1))


def test_the_record_asks_for_trimming_with_ties_alone():
    plain = METHOD.recipe().options
    ties = METHOD.recipe({"merge_by": "ties"}).options
    assert METHOD.needs_of(plain) == {Need.PRETRAINED}
    assert METHOD.needs_of(ties) == {Need.PRETRAINED, Need.TRIM}
    survey = METHOD.surveys["balance"]
    assert not survey.is_asked(plain)
    assert survey.is_asked(ties)
    assert METHOD.per_task


def test_thresholds_are_one_or_several_and_never_negative():
    for given_, kept in ((1, 1.0), ([0.2, 1], (0.2, 1.0)), (0.3, 0.3)):
        recipe = METHOD.recipe({"mask_threshold": given_})
        assert recipe.options["mask_threshold"] == kept
        assert METHOD.recipe(recipe.options) == recipe
    for refused in (-0.1, (0.2, -0.1), float("nan"), float("inf"), "best"):
        with pytest.raises(InputError, match="tall_masks: mask_threshold = "):
            METHOD.recipe({"mask_threshold": refused})
    with pytest.raises(UnknownNameError):
        METHOD.recipe({"weights": (1.0, 1.0)})


def test_the_best_threshold_is_each_tasks_own():
    choice = METHOD.best["mask_threshold"]
    assert (choice.method, choice.option) == ("tall_masks", "mask_threshold")
    assert choice.per_task
    assert set(choice.alike) <= METHOD.options.model_fields.keys() - {choice.option}


@pytest.mark.parametrize("merge_by", ["task_arithmetic", "ties"])
@pytest.mark.parametrize("comparison", ["inclusive", "strict"])
def test_the_cost_is_in_proportion_to_the_entries(merge_by, comparison):
    options = METHOD.recipe({"merge_by": merge_by, "comparison": comparison}).options
    for experts in (1, 2, 8):
        per_entry = METHOD.flops((), experts, **options)
        assert METHOD.flops((6, 7), experts, **options) == 42 * per_entry
        assert METHOD.flops((0,), experts, **options) == 0


def test_the_cost_is_counted_step_by_step():
    options = METHOD.recipe({"comparison": "strict"}).options
    experts = 3
    merging = experts + (experts - 1)
    masking = 5 * experts + experts
    assert METHOD.flops((), experts, **options) == merging + masking + 2 * experts
