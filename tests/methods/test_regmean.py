"""RegMean against least squares on the inputs themselves, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.methods.regmean import METHOD, regmean, regmean_all, solve_

seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])


def layers(seed, experts=3, d_out=4, d_in=5, tokens=40):
    """Weights, and inputs with correlations that differ from expert to expert."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(experts, d_out, d_in))
    mixing = np.eye(d_in) + 0.5 * random.normal(size=(experts, d_in, d_in))
    return weights, random.normal(size=(experts, tokens, d_in)) @ mixing


def grams_of(inputs):
    return np.array([x.T @ x / len(x) for x in inputs])


def merged_by(weights, grams, **options):
    # The float32 that the engine would hand over costs digits that these tests compare.
    return regmean(torch.tensor(weights), torch.tensor(grams), **options).numpy()


def shrunk(grams, share):
    return np.array([share * g + (1 - share) * np.diag(np.diag(g)) for g in grams])


def rotation(random, size):
    return np.linalg.qr(random.normal(size=(size, size)))[0]


@given(seed=seeds)
def test_minimizes_the_mean_squared_error_of_the_outputs(seed):
    weights, inputs = layers(seed)
    outputs = np.concatenate([x @ w.T for x, w in zip(inputs, weights, strict=True)])
    expected = np.linalg.lstsq(np.concatenate(inputs), outputs)[0].T
    merged = merged_by(weights, grams_of(inputs), off_diagonal=1.0)
    np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-8)


@given(seed=seeds, share=shares)
def test_is_the_formula_of_the_paper_where_that_is_defined(seed, share):
    weights, inputs = layers(seed)
    grams = shrunk(grams_of(inputs), share)
    # The paper's W is d_in x d_out: (sum G)^-1 sum G W.
    above = sum(g @ w.T for g, w in zip(grams, weights, strict=True))
    expected = (np.linalg.inv(grams.sum(axis=0)) @ above).T
    merged = merged_by(weights, grams_of(inputs), off_diagonal=share)
    np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-8)


def by_loops(weights, grams, share, ridge):
    """The paper's formula with the average as prior, entry by entry."""
    experts, d_out, d_in = weights.shape
    summed, above = np.zeros((d_in, d_in)), np.zeros((d_in, d_out))
    for e in range(experts):
        for i in range(d_in):
            for j in range(d_in):
                entry = grams[e, i, j] * (1.0 if i == j else share)
                summed[i, j] += entry
                above[i] += entry * weights[e, :, j]
    mean = sum(weights) / experts
    prior = ridge * sum(summed[i, i] for i in range(d_in)) / d_in
    for i in range(d_in):
        summed[i, i] += prior
        above[i] += prior * mean[:, i]
    return np.linalg.solve(summed, above).T


@pytest.mark.parametrize("ridge", [0.0, 0.2])
@given(seed=seeds, share=shares)
def test_float32_goes_in_and_comes_out_and_is_solved_in_float64(ridge, seed, share):
    weights, inputs = layers(seed)
    weights, grams = weights.astype(np.float32), grams_of(inputs).astype(np.float32)
    merged = merged_by(weights, grams, off_diagonal=share, ridge=ridge)
    assert merged.dtype == np.float32
    expected = by_loops(weights.astype(float), grams.astype(float), share, ridge)
    assert np.linalg.norm(merged - expected) < 1e-6 * np.linalg.norm(expected)


@given(seed=seeds)
def test_without_off_diagonals_every_input_has_a_weighted_mean(seed):
    weights, inputs = layers(seed)
    power = np.array([np.diag(g) for g in grams_of(inputs)])
    expected = (weights * power[:, None]).sum(axis=0) / power.sum(axis=0)
    merged = merged_by(weights, grams_of(inputs), off_diagonal=0.0)
    np.testing.assert_allclose(merged, expected, rtol=1e-9)


@given(seed=seeds, share=shares)
def test_equal_grams_are_the_average(seed, share):
    weights, inputs = layers(seed)
    grams = np.array([grams_of(inputs)[0]] * len(weights))
    merged = merged_by(weights, grams, off_diagonal=share)
    np.testing.assert_allclose(merged, weights.mean(axis=0), atol=1e-9)


@given(seed=seeds)
def test_a_dominant_gram_prevails(seed):
    weights, inputs = layers(seed)
    grams = grams_of(inputs) * np.array([1.0, 1e9, 1.0])[:, None, None]
    np.testing.assert_allclose(merged_by(weights, grams), weights[1], atol=1e-5)


@given(seed=seeds, share=shares)
def test_directions_that_no_expert_saw_keep_the_average(seed, share):
    weights, inputs = layers(seed, tokens=1)  # 3 tokens in 5 dimensions
    inputs[:, :, 2] = 0  # and one input that is always zero
    grams = grams_of(inputs)
    merged = merged_by(weights, grams, off_diagonal=share)
    mean = weights.mean(axis=0)
    np.testing.assert_allclose(merged[:, 2], mean[:, 2], atol=1e-12)
    summed = shrunk(grams, share)
    above = sum(g @ (w - mean).T for g, w in zip(summed, weights, strict=True))
    expected = mean + (np.linalg.pinv(summed.sum(axis=0), rcond=1e-7) @ above).T
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)


@given(seed=seeds)
def test_experts_that_are_one_are_kept_where_grams_are_singular(seed):
    weights, inputs = layers(seed, tokens=1)
    weights[:] = weights[0]
    merged = merged_by(weights, grams_of(inputs), off_diagonal=1.0)
    np.testing.assert_allclose(merged, weights[0], atol=1e-9)


def test_no_input_at_all_is_the_average():
    weights, _ = layers(seed=0)
    merged = merged_by(weights, np.zeros((3, 5, 5)))
    np.testing.assert_allclose(merged, weights.mean(axis=0))


@given(seed=seeds, share=shares, scale=st.floats(-4, 4))
def test_rescaling_an_input_rescales_its_column(seed, share, scale):
    weights, inputs = layers(seed)
    units = np.array([10.0**scale, 1, 1, 1, 1])
    merged = merged_by(weights / units, grams_of(inputs * units), off_diagonal=share)
    expected = merged_by(weights, grams_of(inputs), off_diagonal=share) / units
    np.testing.assert_allclose(merged, expected, rtol=1e-4, atol=1e-9)


@given(seed=seeds)
def test_rotating_the_inputs_rotates_the_weight_at_one(seed):
    weights, inputs = layers(seed)
    turned = rotation(np.random.default_rng(seed), 5)
    merged = merged_by(weights @ turned, grams_of(inputs @ turned), off_diagonal=1.0)
    expected = merged_by(weights, grams_of(inputs), off_diagonal=1.0) @ turned
    np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-8)


@given(seed=seeds, share=shares)
def test_mixing_the_outputs_mixes_the_rows(seed, share):
    weights, inputs = layers(seed)
    mixing = np.random.default_rng(seed).normal(size=(2, 4))
    merged = merged_by(mixing @ weights, grams_of(inputs), off_diagonal=share)
    expected = mixing @ merged_by(weights, grams_of(inputs), off_diagonal=share)
    np.testing.assert_allclose(merged, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("tokens", [1, 40])
def test_a_ridge_pulls_towards_the_average(tokens):
    weights, inputs = layers(seed=0, tokens=tokens)
    grams, mean = grams_of(inputs), weights.mean(axis=0)
    distances = [
        np.linalg.norm(merged_by(weights, grams, off_diagonal=1.0, ridge=ridge) - mean)
        for ridge in (0.0, 0.1, 10.0, 1e6)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-4 * distances[0]


def test_a_ridge_is_relative_to_the_mean_diagonal_entry():
    weights, inputs = layers(seed=0)
    grams = grams_of(inputs)
    mean = weights.mean(axis=0)
    prior = 0.3 * np.trace(grams.sum(axis=0)) / 5 * np.eye(5)
    above = sum(g @ w.T for g, w in zip(grams, weights, strict=True)) + prior @ mean.T
    expected = (np.linalg.inv(grams.sum(axis=0) + prior) @ above).T
    merged = merged_by(weights, grams, off_diagonal=1.0, ridge=0.3)
    np.testing.assert_allclose(merged, expected, rtol=1e-8)


RECIPES = [
    {"off_diagonal": share, "ridge": ridge}
    for ridge in (0.0, 0.3)
    for share in (1.0, 0.0, 0.5, 0.9, 0.5)
]


@pytest.mark.parametrize("tokens", [1, 40])
@given(seed=seeds)
def test_a_sweep_gives_exactly_what_merges_give(tokens, seed):
    weights, inputs = layers(seed, tokens=tokens)
    weights = torch.tensor(weights).float()
    grams = torch.tensor(grams_of(inputs)).float()
    swept = list(regmean_all(weights, grams, recipes=RECIPES))
    for merged, recipe in zip(swept, RECIPES, strict=True):
        assert torch.equal(merged, regmean(weights, grams, **recipe))


def test_a_sweep_forms_its_sums_over_experts_once():
    weights, inputs = layers(seed=0)
    tensors = torch.tensor(weights), torch.tensor(grams_of(inputs))

    def products(recipes):
        with FlopCounterMode(display=False) as counter:
            list(regmean_all(*tensors, recipes=recipes))
        return counter.get_total_flops()

    assert products(RECIPES) == products(RECIPES[:1]) == 2 * 2 * 4 * 5**2


def test_a_sweep_leaves_its_inputs_and_earlier_results_alone():
    weights, inputs = layers(seed=0)
    tensors = torch.tensor(weights), torch.tensor(grams_of(inputs))
    before = [tensor.clone() for tensor in tensors]
    results = []
    for merged in regmean_all(*tensors, recipes=RECIPES):
        results.append(merged.clone())
        merged.fill_(0)
    for tensor, kept in zip(tensors, before, strict=True):
        assert torch.equal(tensor, kept)
    for result, recipe in zip(results, RECIPES, strict=True):
        assert torch.equal(result, regmean(*tensors, **recipe))


@given(seed=seeds)
def test_layers_of_one_shape_may_be_merged_at_once(seed):
    # Regular, singular, dependent but for rounding errors, and without any input.
    problems = [layers(seed + i, tokens=t) for i, t in enumerate((40, 1, 30, 1))]
    problems[2][1][:, :, 3] = problems[2][1][:, :, 1]
    problems[3][1][:] = 0
    weights = np.stack([weight for weight, _ in problems], axis=1)
    grams = np.stack([grams_of(inputs) for _, inputs in problems], axis=1)
    merged = regmean_all(torch.tensor(weights), torch.tensor(grams), recipes=RECIPES)
    for together, recipe in zip(merged, RECIPES, strict=True):
        assert together.shape == (4, 4, 5)
        for layer, found in enumerate(together.numpy()):
            expected = merged_by(weights[:, layer], grams[:, layer], **recipe)
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_only_layers_that_are_singular_are_solved_by_eigenvalues(monkeypatch):
    _, inputs = layers(seed=0)
    regular = torch.tensor(grams_of(inputs).sum(axis=0))
    singular = regular.clone()
    singular[2] = singular[1]
    singular[:, 2] = singular[:, 1]
    decomposed = []
    eigh = torch.linalg.eigh

    def counting(matrix, **out):
        decomposed.append(matrix.clone())
        return eigh(matrix, **out)

    monkeypatch.setattr(torch.linalg, "eigh", counting)
    target = torch.ones(3, 2, 5, dtype=torch.float64)
    target[:, :, 2] = target[:, :, 1]
    found = target.clone()
    solve_(torch.stack([regular, singular, regular]), found)
    (only,) = decomposed
    assert torch.equal(only, singular)
    torch.testing.assert_close(found[0] @ regular, target[0])
    torch.testing.assert_close(found[1] @ singular, target[1])


@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("tokens", [1, 40])
def test_a_single_expert_is_returned_as_it_is(share, tokens):
    weights, inputs = layers(seed=0, experts=1, tokens=tokens)
    merged = merged_by(weights, grams_of(inputs), off_diagonal=share)
    np.testing.assert_array_equal(merged, weights[0])


@given(seed=seeds, share=shares)
def test_order_common_factors_and_translations_do_not_matter(seed, share):
    weights, inputs = layers(seed)
    grams, shift = grams_of(inputs), np.arange(20.0).reshape(4, 5)
    merged = merged_by(weights, grams, off_diagonal=share)
    again = merged_by(
        weights[::-1].copy() + shift, 1e-6 * grams[::-1].copy(), off_diagonal=share
    )
    np.testing.assert_allclose(again, merged + shift, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("d_out", "d_in"), [(0, 5), (4, 0), (1, 1)])
def test_layers_may_be_tiny_or_empty(d_out, d_in):
    weights, inputs = layers(seed=0, d_out=d_out, d_in=d_in)
    for recipe in RECIPES:
        merged = merged_by(weights, grams_of(inputs), **recipe)
        assert merged.shape == (d_out, d_in)
        assert np.isfinite(merged).all()


def test_another_recipe_of_a_sweep_costs_a_shrink_and_a_solve():
    d_out, d_in = 7, 11
    costs = [METHOD.flops((d_out, d_in), experts) for experts in (1, 2, 3)]
    each = costs[1] - costs[0]
    product = 2 * d_out * d_in**2 + 2 * d_in**2 + 2 * 77
    averages, shrinking = 3 * 77, 3 * 77
    assert costs[2] - costs[1] == each == product + averages + shrinking
    solving = d_in**3 // 3 + 2 * d_out * d_in**2
    assert costs[0] == d_in**2 + 2 * 77 + solving + 3 * 77
