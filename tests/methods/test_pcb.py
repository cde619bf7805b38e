"""PCB-merging against its formulas, on the vector of the model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergegrid.methods.pcb import METHOD, pcb

seeds = st.integers(0, 2**32 - 1)
SIZES = (15, 40, 1)
few = settings(max_examples=5)  # histograms are long


def problem(seed, shape=(40,), experts=3, digits=None, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = size * torch.randn(experts, *shape, generator=generator)
    if digits is not None:  # equal magnitudes
        task_vectors = (task_vectors * 2**digits).round() / 2**digits
    return task_vectors


def in_model(parameters, **options):
    """Do what the engine does: surveys of all parameters, then merge each."""
    full = METHOD.recipe(options).options
    found = {}
    for name, survey in METHOD.surveys.items():
        assert survey.combine == "sum"
        chosen = {option: full[option] for option in survey.options}
        taken = [found[argument] for argument in survey.arguments[1:]]
        found[name] = sum(survey.measure(part, *taken, **chosen) for part in parameters)
    chosen = {option: full[option] for option in METHOD.merged_options}
    return [pcb(part, *found.values(), **chosen) for part in parameters]


def by_itself(task_vectors, **options):
    (merged,) = in_model([task_vectors], **options)
    return merged


def by_hand(task_vectors, clip=0.0001, keep=0.1):
    """Merge [expert, entry]; fractions are read as decimals of four places."""
    vectors = task_vectors.double().numpy()
    experts, count = vectors.shape

    def rank(fraction):
        return min(round(fraction * 10_000) * count // 10_000, count - 1)

    above, below = np.zeros(count), np.zeros(count)
    for vector in vectors:
        ascending = sorted(np.abs(vector))
        low, high = ascending[rank(clip)], ascending[rank(1 - clip)]
        clipped = [min(max(abs(x), low), high) for x in vector]
        scores = np.zeros(count)
        for place, magnitude in enumerate(clipped):
            normal = (magnitude - low) / (high - low) if high > low else 0.0
            together = vector[place] * vectors[:, place].sum()
            scores[place] = math.exp(experts * normal**2) * math.tanh(together)
        # The library's are smaller by this factor, and rounded to be compared.
        scores = (scores * math.exp(-experts)).astype(np.float32).astype(float)
        least, best = sorted(scores)[rank(1 - keep)], max(scores)
        for place, score in enumerate(scores):
            if best > least:
                weight = (max(score, least) - least) / (best - least)
            else:
                weight = float(score >= least and score > 0)
            above[place] += weight * np.sign(vector[place]) * clipped[place]
            below[place] += weight
    return np.where(below > 0, above / np.where(below > 0, below, 1), 0)


options = {
    "experts": st.sampled_from([1, 2, 3, 5]),
    "digits": st.sampled_from([None, None, 0, 1]),
    "size": st.sampled_from([1.0, 1e-3]),
    "clip": st.sampled_from([0.0, 0.0001, 0.05, 0.3]),
    "keep": st.sampled_from([0.05, 0.1, 0.3, 1.0]),
}


def assert_is(actual, expected):
    tolerance = 1e-6 * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=tolerance)


@given(seed=seeds, **options)
def test_is_the_mean_weighted_by_competition_in_the_model(
    seed, experts, digits, size, clip, keep
):
    parameters = [
        problem(seed + i, (entries,), experts, digits, size)
        for i, entries in enumerate(SIZES)
    ]
    merged = in_model(parameters, clip=clip, keep=keep)
    expected = by_hand(torch.cat(parameters, dim=1), clip=clip, keep=keep)
    assert_is(torch.cat(merged).double().numpy(), expected)


@given(
    seed=seeds,
    shape=st.sampled_from([(), (1,), (2,), (4, 6), (2, 3, 4), (0,), (0, 3)]),
    **options,
)
def test_by_itself_a_tensor_is_a_model_of_its_own(
    seed, shape, experts, digits, size, clip, keep
):
    task_vectors = problem(seed, shape, experts, digits, size)
    merged = by_itself(task_vectors, clip=clip, keep=keep)
    assert merged.dtype == task_vectors.dtype
    assert merged.shape == shape
    if not merged.numel():
        return
    expected = by_hand(task_vectors.reshape(experts, -1), clip=clip, keep=keep)
    assert_is(merged.flatten().double().numpy(), expected)


@few
@given(seed=seeds)
def test_cutting_the_model_differently_changes_nothing(seed):
    task_vectors = problem(seed, (60,))
    whole = by_itself(task_vectors)
    parts = in_model(list(task_vectors.split((1, 0, 40, 19), dim=1)))
    assert torch.equal(torch.cat(parts), whole)


def test_tensors_by_themselves_are_not_the_model():
    parameters = [problem(seed=0), problem(seed=1, size=0.1)]
    together = in_model(parameters, keep=0.3)
    alone = [by_itself(part, keep=0.3) for part in parameters]
    assert not torch.allclose(together[1], alone[1])


def test_a_child_could_check_this():
    # One expert that moves nothing else has no rival; the best tenth is one entry.
    task_vectors = torch.zeros(2, 10)
    task_vectors[0, 3], task_vectors[1, 7] = 5.0, -2.0
    merged = by_itself(task_vectors, clip=0.0, keep=0.2)
    assert merged.nonzero().flatten().tolist() == [3, 7]
    assert merged[[3, 7]].tolist() == [5.0, -2.0]


def test_entries_against_the_sum_lose_against_those_with_it():
    task_vectors = torch.tensor([[3.0, 0.1, 0.2], [-1.0, 0.2, 0.1], [2.0, 0.1, 0.1]])
    merged = by_itself(task_vectors, clip=0.0, keep=0.5)
    assert 2.0 <= merged[0].item() <= 3.0


@few
@given(seed=seeds, keep=st.sampled_from([0.1, 0.5]))
def test_no_entry_moves_further_than_with_the_expert_that_moves_it_most(seed, keep):
    task_vectors = problem(seed)
    merged = by_itself(task_vectors, keep=keep)
    assert (merged.abs() <= task_vectors.abs().amax(dim=0) + 1e-6).all()


def test_keeping_less_changes_fewer_entries():
    task_vectors = problem(seed=0, shape=(1000,))
    changed = [
        by_itself(task_vectors, keep=keep).count_nonzero().item()
        for keep in (0.01, 0.1, 0.5)
    ]
    assert changed == sorted(changed)
    # The least entry that is kept has no weight.
    assert 9 <= changed[0] <= 3 * 9


def test_outliers_are_clipped():
    task_vectors = torch.cat([torch.linspace(0.1, 1, 99), torch.tensor([50.0])])[None]
    assert by_itself(task_vectors, clip=0.02).max().item() == pytest.approx(
        task_vectors[0, 98].item()
    )
    assert by_itself(task_vectors, clip=0.0).max().item() == 50


@few
@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_experts_does_not_matter(seed, order):
    task_vectors = problem(seed)
    reordered = by_itself(task_vectors[order], keep=0.3)
    torch.testing.assert_close(reordered, by_itself(task_vectors, keep=0.3))


@few
@given(seed=seeds, order=st.permutations(range(40)))
def test_the_order_of_entries_does_not_matter(seed, order):
    task_vectors = problem(seed)
    assert torch.equal(
        by_itself(task_vectors[:, order]), by_itself(task_vectors)[order]
    )


@few
@given(seed=seeds)
def test_moving_the_other_way_merges_the_other_way(seed):
    task_vectors = problem(seed)
    assert torch.equal(by_itself(-task_vectors), -by_itself(task_vectors))


def test_a_common_factor_does_not_go_through_the_hyperbolic_tangent():
    task_vectors = problem(seed=0)
    doubled = by_itself(2 * task_vectors, keep=0.5)
    assert not torch.allclose(doubled, 2 * by_itself(task_vectors, keep=0.5))


@pytest.mark.parametrize("keep", [0.1, 1.0])
def test_copies_of_one_expert_are_not_merged_into_it(keep):
    one = problem(seed=0, experts=1)
    merged = by_itself(one.expand(3, -1), clip=0.0, keep=keep)
    assert not torch.allclose(merged, one[0])
    kept = merged != 0
    torch.testing.assert_close(merged[kept], one[0][kept])


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_constant_task_vectors_are_merged_into_themselves(value):
    constant = torch.full((3, 5), value)
    assert by_itself(constant).tolist() == [value] * 5


def test_an_expert_that_is_the_pretrained_model_has_no_weight():
    still = torch.tensor([[2.0, 2.0], [0.0, 0.0]])
    assert by_itself(still).tolist() == [2.0, 2.0]


def test_a_single_entry_is_the_mean_of_the_experts_that_agree_with_the_sum():
    assert by_itself(torch.tensor([4.0, 2.0, -1.0])).item() == 3.0


def test_many_experts_do_not_overflow():
    merged = by_itself(problem(seed=0, experts=100), keep=0.5)
    assert merged.isfinite().all()
    assert merged.any()


def test_inputs_are_untouched():
    task_vectors = problem(seed=0)
    before = task_vectors.clone()
    by_itself(task_vectors).fill_(7)
    assert torch.equal(task_vectors, before)


def test_surveys_are_of_the_model_or_of_each_tensor():
    for survey in METHOD.surveys.values():
        assert not survey.is_per_tensor(METHOD.recipe().options)
        assert survey.is_per_tensor(METHOD.recipe({"scope": "tensor"}).options)
    assert METHOD.arguments[1:] == tuple(METHOD.surveys)


def test_the_record_says_what_the_engine_must_know():
    defaults = METHOD.recipe().options
    assert not METHOD.draws(defaults)
    assert not METHOD.is_whole_tensor(defaults)
    assert (defaults["clip"], defaults["keep"], defaults["scale"]) == (0.0001, 0.1, 1.2)


def test_each_operation_is_counted_once():
    # Differences and magnitudes, scores thrice, weights and sums, division, scale.
    assert METHOD.flops((6, 7), 3) == (9 + 3 * (2 + 13 * 3) + 7 * 3 + 1 + 2) * 42
    assert METHOD.flops((0,), 3) == 0
