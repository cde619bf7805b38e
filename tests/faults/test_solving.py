"""Faults of other tools in RegMean, MaTS and Fisher merging, each a test's name.

They were seen in git-theta, in the code of RegMean, MaTS and the Realistic Evaluation
paper, and in what that paper's tables show of them.
"""

import logging

import numpy as np
import pytest
import torch

from mergegrid import merge
from mergegrid.errors import LayoutError, MissingPrerequisiteError
from mergegrid.methods.needs import Need

NAMES = ("a", "b", "c")


def layers(seed=0, tokens=40, d_out=4, d_in=5):
    """Weights of one layer in three experts, and what each expert gave the layer."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(3, d_out, d_in)).astype(np.float32)
    mixing = np.eye(d_in) + 0.5 * random.normal(size=(3, d_in, d_in))
    return weights, random.normal(size=(3, tokens, d_in)) @ mixing


def grams_of(inputs):
    return np.array([x.T @ x / len(x) for x in inputs])


def experts_of(weights, name="w"):
    return {n: {name: torch.tensor(w)} for n, w in zip(NAMES, weights, strict=False)}


def merged(weights, statistics, method, pretrained=None, **options):
    experts = experts_of(weights)
    given = {
        need: {
            name: {"w": torch.tensor(tensor, dtype=torch.float32)}
            for name, tensor in zip(NAMES, tensors, strict=True)
        }
        for need, tensors in statistics.items()
    }
    base = {"w": torch.zeros(weights[0].shape) if pretrained is None else pretrained}
    recipe = {"method": method, "options": options}
    return merge(experts, recipe, base, given)["w"].double().numpy()


def regmean(weights, grams, off_diagonal):
    return merged(weights, {Need.GRAM: grams}, "regmean", off_diagonal=off_diagonal)


# RegMean


@pytest.mark.parametrize("off_diagonal", [0.0, 0.9, 1.0])
def test_singular_gram_raises_or_zeroes_dead_inputs(off_diagonal):
    weights, inputs = layers()
    inputs[:, :, 2] = 0
    found = regmean(weights, grams_of(inputs), off_diagonal)
    mean = weights.astype(float).mean(axis=0)
    np.testing.assert_allclose(found[:, 2], mean[:, 2], rtol=1e-6)
    # The others are merged as if the dead one were not there.
    live = [0, 1, 3, 4]
    expected = regmean(
        weights[:, :, live].copy(), grams_of(inputs[:, :, live]), off_diagonal
    )
    np.testing.assert_allclose(found[:, live], expected, rtol=1e-5, atol=1e-6)


def test_singular_gram_of_few_tokens_gives_garbage():
    weights, inputs = layers(tokens=1)  # 3 tokens in 5 dimensions
    grams = grams_of(inputs)
    mean = weights.astype(float).mean(axis=0)
    above = sum((w - mean) @ g for w, g in zip(weights, grams, strict=True))
    expected = mean + above @ np.linalg.pinv(grams.sum(axis=0), rcond=1e-7)
    np.testing.assert_allclose(
        regmean(weights, grams, 1.0), expected, rtol=1e-4, atol=1e-5
    )


def test_nearly_singular_gram_explodes():
    # Condition about 1e12, in float32 as Grams are stored: inverting this is what lets
    # RegMean collapse at 1.0 in the paper's tables.
    random = np.random.default_rng(0)
    weights, _ = layers(d_in=20)
    turned = np.linalg.qr(random.normal(size=(20, 20)))[0]
    inputs = random.normal(size=(3, 300, 20)) * np.logspace(0, -6, 20) @ turned
    grams = grams_of(inputs).astype(np.float32).astype(float)
    found = regmean(weights, grams, 1.0)
    mean = weights.astype(float).mean(axis=0)

    above = sum(w @ g for w, g in zip(weights, grams, strict=True))
    inverted = above @ np.linalg.inv(grams.sum(axis=0))

    def loss(candidate):
        return sum(
            np.square(x @ (candidate - w).T).mean()
            for x, w in zip(inputs, weights, strict=True)
        )

    assert loss(found) < loss(mean)
    # Least squares in earnest: some growth is due, not that of rounding errors.
    assert np.linalg.norm(found - mean) < 0.2 * np.linalg.norm(inverted - mean)


def test_live_input_whose_row_adds_up_to_zero_taken_for_dead():
    weights, _ = layers(d_in=3)
    # Rows that add up to exactly zero, in float32 too.
    gram = np.array([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]])
    grams = np.array([gram, 2 * gram, 4 * gram])
    mean = weights.astype(float).mean(axis=0)
    above = sum((w - mean) @ g for w, g in zip(weights, grams, strict=True))
    expected = mean + above @ np.linalg.pinv(grams.sum(axis=0), rcond=1e-7)
    found = regmean(weights, grams, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found - mean).max() > 0.1


def test_vectors_without_grams_set_to_zero_or_not_told(caplog):
    # As IA3's are, for which RegMean is averaging.
    weights, inputs = layers()
    experts = {
        name: {"w": torch.tensor(w), "ia3": torch.tensor(w[0])}
        for name, w in zip(NAMES, weights, strict=True)
    }
    grams = {
        name: {"w": torch.tensor(gram, dtype=torch.float32)}
        for name, gram in zip(NAMES, grams_of(inputs), strict=True)
    }
    with caplog.at_level(logging.DEBUG, logger="mergegrid"):
        found = merge(experts, "regmean", statistics={Need.GRAM: grams})
    torch.testing.assert_close(found["ia3"], torch.tensor(weights[:, 0].mean(axis=0)))
    assert "regmean averages what has no gram statistic: ia3" in caplog.messages


# Statistics that are looked up by name


def test_statistic_under_another_name_averaged_without_a_word():
    weights, _ = layers()
    experts = experts_of(weights, "attn.w")
    grams = {name: torch.eye(5) for name in NAMES}
    for written in ("attn", "attn.weight"):
        statistics = {Need.GRAM: {n: {written: gram} for n, gram in grams.items()}}
        with pytest.raises(LayoutError, match=f"has '{written}', which is none of its"):
            merge(experts, "regmean", statistics=statistics)


@pytest.mark.parametrize("method", ["fisher", "regmean", "mats"])
def test_missing_statistic_averaged_without_a_word(method):
    weights, inputs = layers()
    experts = experts_of(weights)
    base = {"w": torch.zeros(4, 5)}
    need = Need.FISHER if method == "fisher" else Need.GRAM
    tensors = weights**2 if method == "fisher" else grams_of(inputs)
    given = {
        n: {"w": torch.tensor(t).float()} for n, t in zip("ab", tensors, strict=False)
    }
    for statistics in ({}, {need: given}):
        with pytest.raises(MissingPrerequisiteError, match=f"the {need} statistic of"):
            merge(experts, method, base, statistics)


# MaTS


@pytest.mark.parametrize("initial", ["average", "task_arithmetic"])
def test_mats_starts_from_the_sum_of_the_experts(initial):
    weights, inputs = layers()
    pretrained = torch.tensor(weights.mean(axis=0)) + 1
    found = merged(
        weights,
        {Need.GRAM: grams_of(inputs)},
        "mats",
        pretrained,
        iterations=0,
        initial=initial,
        initial_scale=0.2,
    )
    base = pretrained.double().numpy()
    expected = {
        "average": weights.astype(float).mean(axis=0),
        "task_arithmetic": base + 0.2 * (weights - base).sum(axis=0),
    }[initial]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_mats_by_inputs_and_output_gradients_unless_asked():
    weights, inputs = layers()
    # Without a `gradient` statistic, only the covariance of the inputs can be meant.
    found = merged(weights, {Need.GRAM: grams_of(inputs)}, "mats", iterations=500)
    expected = regmean(weights, grams_of(inputs), 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


# Fisher merging


def test_fisher_sets_entries_without_information_to_zero():
    weights, _ = layers()
    information = weights**2
    information[:, 0] = 0
    found = merged(weights, {Need.FISHER: information}, "fisher")
    mean = weights.astype(float).mean(axis=0)
    np.testing.assert_allclose(found[0], mean[0], rtol=1e-6)
    assert np.abs(found[1:] - mean[1:]).min() > 1e-4


def test_fisher_of_two_experts_returns_the_first():
    weights, _ = layers()
    experts = {
        n: {"w": torch.tensor(w)} for n, w in zip("ab", weights[:2], strict=True)
    }
    information = {n: {"w": torch.full((4, 5), f)} for n, f in (("a", 1.0), ("b", 3.0))}
    found = merge(experts, "fisher", statistics={Need.FISHER: information})["w"]
    expected = (weights[0] + 3 * weights[1]) / 4
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_fisher_too_small_for_float32_lost():
    weights, _ = layers()
    information = np.full(weights.shape, 1e-42) * np.array([1, 2, 3])[:, None, None]
    found = merged(weights, {Need.FISHER: information}, "fisher")
    stored = information.astype(np.float32).astype(float)
    expected = (stored * weights).sum(axis=0) / stored.sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_fisher_that_one_expert_lacks_taken_for_zero():
    experts = {
        n: {"w": torch.tensor([i, 2.0]), "v": torch.tensor([float(i)])}
        for i, n in enumerate("ab")
    }
    information = {n: {"w": torch.ones(2), "v": torch.ones(1)} for n in "ab"}
    del information["b"]["v"]
    found = merge(experts, "fisher", statistics={Need.FISHER: information})
    assert found["v"].tolist() == [0.5]
