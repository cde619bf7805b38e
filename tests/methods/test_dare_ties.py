"""DARE-TIES against its parts and against both papers, on the vector of the model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.dare_ties import METHOD, dare_ties
from mergegrid.methods.needs import Need
from mergegrid.methods.ties import METHOD as TIES
from mergegrid.methods.ties import sign_balance, ties

seeds = st.integers(0, 2**32 - 1)


def problem(seed, size=30, experts=3):
    generator = torch.Generator().manual_seed(seed)
    task_vectors = torch.randn(experts, size, generator=generator)
    return task_vectors, torch.rand(experts, size, generator=generator)


def largest(vectors, density):
    """Keep the largest entries of each, as the engine does for a model."""
    kept = np.zeros_like(vectors)
    count = math.floor(density * vectors.shape[1] + 1e-9)
    for expert, vector in enumerate(vectors):
        order = sorted(range(len(vector)), key=lambda i: (-abs(vector[i]), i))
        for place in order[:count]:
            kept[expert, place] = vector[place]
    return kept


def run(task_vectors, uniform, **options):
    """Do what the engine does for a model of one parameter."""
    full = METHOD.recipe(options).options
    thinned = METHOD.sparsify(
        task_vectors,
        uniform,
        **{name: full[name] for name in METHOD.sparsified_options},
    )
    trimmed = torch.from_numpy(largest(thinned.numpy(), full["density"]))
    survey = METHOD.surveys["balance"]
    balance = survey.measure(trimmed, **{name: full[name] for name in survey.options})
    merging = {name: full[name] for name in METHOD.merged_options}
    return dare_ties(trimmed, balance if survey.is_asked(full) else None, **merging)


def by_hand(
    task_vectors, uniform, drop_rate, density, zero_sum, aggregate, weights, rescale
):
    vectors = task_vectors.double().numpy()
    thinned = np.zeros_like(vectors)
    for place in np.ndindex(vectors.shape):
        if uniform[place].item() >= drop_rate:
            thinned[place] = vectors[place] / (1 - drop_rate)
    if rescale == "norm":
        for expert, vector in enumerate(vectors):
            left = np.abs(thinned[expert]).sum()
            thinned[expert] *= np.abs(vector).sum() / left if left else 1
    weighted = largest(thinned, density) * np.array(weights)[:, None]
    sums = weighted.sum(axis=0)
    majority = -1 if np.sign(sums).sum() < 0 else 1
    merged = np.zeros(len(sums))
    for place, total in enumerate(sums):
        sign = np.sign(total) or {"strict": 0, "plus": 1}.get(zero_sum, majority)
        agreeing = [e for e in range(len(vectors)) if sign * weighted[e, place] > 0]
        if agreeing:
            entries = weighted[agreeing, place]
            merged[place] = {
                "mean": entries.sum() / sum(weights[e] for e in agreeing),
                "sum": entries.sum(),
                "max": max(entries, key=abs),
            }[aggregate]
    return merged


@given(
    seed=seeds,
    drop_rate=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    density=st.sampled_from([0.1, 0.2, 0.5, 1.0]),
    zero_sum=st.sampled_from(["majority", "tensor_majority", "strict", "plus"]),
    aggregate=st.sampled_from(["mean", "sum", "max"]),
    weights=st.sampled_from([None, (1.0, 0.5, 2.0)]),
    rescale=st.sampled_from(["inverse", "norm"]),
)
def test_thins_then_trims_then_merges_as_ties_does(
    seed, drop_rate, density, zero_sum, aggregate, weights, rescale
):
    task_vectors, uniform = problem(seed)
    options = {
        "drop_rate": drop_rate,
        "density": density,
        "zero_sum": zero_sum,
        "aggregate": aggregate,
        "rescale": rescale,
    }
    merged = run(task_vectors, uniform, weights=weights, **options)
    expected = by_hand(
        task_vectors, uniform, weights=weights or (1.0, 1.0, 1.0), **options
    )
    np.testing.assert_allclose(merged.double().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("zero_sum", ["majority", "tensor_majority", "strict", "plus"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_rule_for_zero_sums_is_handed_over(zero_sum, sign):
    trimmed = torch.tensor([[2.0, sign * 1.0], [-2.0, sign * 1.0]])
    merged = dare_ties(trimmed, sign_balance(trimmed), zero_sum=zero_sum)
    expected = {"strict": 0.0, "plus": 2.0}.get(zero_sum, sign * 2.0)
    assert merged.tolist() == [expected, sign]


@given(seed=seeds)
def test_without_dropping_it_is_ties(seed):
    task_vectors, uniform = problem(seed)
    trimmed = torch.from_numpy(largest(task_vectors.numpy(), 0.2))
    expected = ties(trimmed, None, sign_balance(trimmed))
    assert torch.equal(run(task_vectors, uniform, drop_rate=0.0), expected)


def test_the_density_is_of_all_entries_not_of_those_that_are_left():
    task_vectors, uniform = problem(seed=0, size=1000, experts=1)
    for drop_rate, left in ((0.5, 200), (0.9, 100)):
        merged = run(task_vectors, uniform, drop_rate=drop_rate)
        assert merged.count_nonzero().item() == pytest.approx(left, abs=30)


@given(seed=seeds)
def test_an_expert_that_is_the_pretrained_model_changes_nothing(seed):
    task_vectors, uniform = problem(seed)
    more = torch.cat([task_vectors, torch.zeros(1, 30)])
    merged = run(more, torch.cat([uniform, uniform[:1]]))
    torch.testing.assert_close(merged, run(task_vectors, uniform))


@given(seed=seeds, order=st.permutations(range(3)))
def test_the_order_of_experts_does_not_matter(seed, order):
    task_vectors, uniform = problem(seed)
    reordered = run(task_vectors[order], uniform[order])
    torch.testing.assert_close(reordered, run(task_vectors, uniform))


@given(seed=seeds, factor=st.sampled_from([2.0, -4.0]))
def test_a_common_factor_goes_through(seed, factor):
    task_vectors, uniform = problem(seed)
    options = {"zero_sum": "strict"}
    scaled = run(factor * task_vectors, uniform, **options)
    assert torch.equal(scaled, factor * run(task_vectors, uniform, **options))


def test_copies_of_one_expert_are_not_merged_into_it():
    one, _ = problem(seed=0, experts=1)
    _, uniform = problem(seed=0)
    merged = run(one.expand(3, -1), uniform, density=1.0)
    assert not torch.allclose(merged, one[0])


def test_the_record_says_what_the_engine_must_know():
    options = METHOD.recipe().options
    assert (options["drop_rate"], options["density"], options["scale"]) == (0.5, 0.2, 1)
    assert options["scope"] == "model"
    assert METHOD.draws(options)
    assert METHOD.trims(options)
    assert METHOD.needs_of(options) == {Need.PRETRAINED}
    assert "signs" not in METHOD.asked
    assert "election" not in options
    assert not METHOD.is_whole_tensor(options)
    assert METHOD.is_whole_tensor(METHOD.recipe({"rescale": "norm"}).options)


def test_it_costs_what_thinning_adds_to_ties():
    for rescale, added in (("inverse", 4), ("norm", 8)):
        options = METHOD.recipe({"rescale": rescale}).options
        merging = TIES.flops((6, 7), 3, **TIES.recipe().options)
        assert METHOD.flops((6, 7), 3, **options) == merging + added * 3 * 42
    assert METHOD.flops((0,), 3) == 0
