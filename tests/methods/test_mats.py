"""MaTS against conjugate gradients on the dense system over vec(W), in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergegrid.methods.matching import matching
from mergegrid.methods.mats import METHOD, mats
from mergegrid.methods.needs import Need
from mergegrid.methods.regmean import regmean

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=6)
COVARIANCES = ("inputs", "kfac", "diagonal")
every_covariance = pytest.mark.parametrize("covariance", COVARIANCES)


def problem(seed, experts=3, d_out=4, d_in=6, tokens=50):
    random = np.random.default_rng(seed)
    pretrained = random.normal(size=(d_out, d_in))
    weights = pretrained + 0.3 * random.normal(size=(experts, d_out, d_in))
    inputs = random.normal(size=(experts, tokens, d_in)) * np.linspace(1, 3, d_in)
    grams = np.array([x.T @ x / tokens for x in inputs])
    return torch.tensor(weights), torch.tensor(pretrained), torch.tensor(grams)


def full_problem(seed, experts=3, d_out=4, d_in=6, tokens=50):
    """The five tensors that the method takes."""
    sizes = {"experts": experts, "d_out": d_out, "d_in": d_in, "tokens": tokens}
    weights, pretrained, grams = problem(seed, **sizes)
    random = np.random.default_rng(seed + 1)
    outputs = random.normal(size=(experts, tokens, d_out)) * np.linspace(0.5, 1, d_out)
    gradients = np.array([g.T @ g / tokens for g in outputs])
    fisher = random.uniform(0.1, 1, size=weights.shape)
    return weights, pretrained, grams, torch.tensor(gradients), torch.tensor(fisher)


def only_needed(tensors, covariance):
    weights, pretrained, grams, gradients, fisher = tensors
    return (
        weights,
        pretrained,
        None if covariance == "diagonal" else grams,
        gradients if covariance == "kfac" else None,
        fisher if covariance == "diagonal" else None,
    )


def options(**given):
    return {name: METHOD.recipe(given).options[name] for name in METHOD.merged_options}


def dense_system(tensors, covariance):
    """The matrix over vec(W), its rows one after the other, and the right-hand side."""
    weights, _, grams, gradients, fisher = (
        tensor.double().numpy() for tensor in tensors
    )
    d_out, d_in = weights.shape[1:]
    matrix = np.zeros((d_out * d_in, d_out * d_in))
    target = np.zeros(d_out * d_in)
    for e, weight in enumerate(weights):
        if covariance == "inputs":
            information = np.kron(np.eye(d_out), grams[e])
        elif covariance == "kfac":
            information = np.kron(gradients[e], grams[e])
        else:
            information = np.diag(fisher[e].ravel())
        matrix += information
        target += information @ weight.ravel()
    return matrix, target


def dense_conjugate_gradients(matrix, target, start, iterations):
    """Hestenes and Stiefel's iteration as textbooks give it, for one vector."""
    x = start.copy()
    r = target - matrix @ x
    p = r.copy()
    for _ in range(iterations):
        alpha = (r @ r) / (p @ matrix @ p)
        x += alpha * p
        r_next = r - alpha * matrix @ p
        p = r_next + (r_next @ r_next) / (r @ r) * p
        r = r_next
    return x


@every_covariance
@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
@pytest.mark.parametrize("initial", ["task_arithmetic", "average"])
@given(seed=seeds)
def test_is_conjugate_gradients_on_the_stacked_system(
    covariance, iterations, initial, seed
):
    tensors = full_problem(seed)
    merged = mats(
        *only_needed(tensors, covariance),
        iterations=iterations,
        initial=initial,
        initial_scale=0.2,
        covariance=covariance,
    )
    weights, pretrained = tensors[0].numpy(), tensors[1].numpy()
    start = (
        weights.mean(axis=0)
        if initial == "average"
        else pretrained + 0.2 * (weights - pretrained).sum(axis=0)
    )
    matrix, target = dense_system(tensors, covariance)
    expected = dense_conjugate_gradients(matrix, target, start.ravel(), iterations)
    np.testing.assert_allclose(merged.numpy().ravel(), expected, rtol=1e-8, atol=1e-10)


@every_covariance
@few
@given(seed=seeds)
def test_float32_goes_in_and_comes_out_and_is_computed_in_float64(covariance, seed):
    tensors = [tensor.float() for tensor in full_problem(seed)]
    merged = mats(
        *only_needed(tensors, covariance),
        iterations=3,
        initial="average",
        covariance=covariance,
    )
    assert merged.dtype == torch.float32
    matrix, target = dense_system(tensors, covariance)
    start = tensors[0].mean(dim=0).double().numpy().ravel()
    expected = dense_conjugate_gradients(matrix, target, start, 3)
    difference = np.linalg.norm(merged.double().numpy().ravel() - expected)
    assert difference < 1e-6 * np.linalg.norm(expected)


@every_covariance
@few
@given(seed=seeds)
def test_converges_to_the_solution_of_the_system(covariance, seed):
    tensors = full_problem(seed)
    merged = mats(
        *only_needed(tensors, covariance), iterations=500, covariance=covariance
    )
    matrix, target = dense_system(tensors, covariance)
    expected = np.linalg.solve(matrix, target).reshape(merged.shape)
    np.testing.assert_allclose(merged.numpy(), expected, rtol=1e-4, atol=1e-5)


@few
@given(seed=seeds)
def test_inputs_alone_converge_to_regmean_without_shrinking(seed):
    weights, pretrained, grams = problem(seed)
    merged = mats(weights, pretrained, grams, iterations=100)
    expected = regmean(weights, grams, off_diagonal=1.0)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


@few
@given(seed=seeds)
def test_equal_output_gradients_cancel(seed):
    weights, pretrained, grams, gradients, _ = full_problem(seed)
    gradients[:] = gradients[0]
    merged = mats(
        weights, pretrained, grams, gradients, iterations=500, covariance="kfac"
    )
    expected = regmean(weights, grams, off_diagonal=1.0)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)


@few
@given(seed=seeds)
def test_output_gradients_that_are_isotropic_are_inputs_alone_at_every_step(seed):
    weights, pretrained, grams = problem(seed)
    isotropic = torch.eye(4).double().expand(3, 4, 4)
    for iterations in (0, 1, 4):
        merged = mats(
            weights,
            pretrained,
            grams,
            isotropic,
            iterations=iterations,
            covariance="kfac",
        )
        expected = mats(weights, pretrained, grams, iterations=iterations)
        torch.testing.assert_close(merged, expected, rtol=1e-9, atol=1e-10)


@few
@given(seed=seeds)
def test_the_diagonal_converges_to_fisher_merging(seed):
    weights, pretrained, _, _, fisher = full_problem(seed)
    merged = mats(
        weights, pretrained, fisher=fisher, iterations=500, covariance="diagonal"
    )
    expected = (weights * fisher).sum(dim=0) / fisher.sum(dim=0)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


@every_covariance
@few
@given(seed=seeds)
def test_statistics_that_tell_nothing_apart_give_the_average(covariance, seed):
    weights, pretrained, *_ = full_problem(seed)
    alike = (
        torch.eye(6).double().expand(3, 6, 6),
        torch.eye(4).double().expand(3, 4, 4),
        torch.ones_like(weights),
    )
    tensors = only_needed((weights, pretrained, *alike), covariance)
    merged = mats(*tensors, iterations=1, covariance=covariance)
    torch.testing.assert_close(merged, weights.mean(dim=0))


@every_covariance
@few
@given(seed=seeds)
def test_the_order_of_experts_does_not_matter(covariance, seed):
    weights, pretrained, *statistics = full_problem(seed)
    backward = (weights.flip(0), pretrained, *(each.flip(0) for each in statistics))
    found = [
        mats(*only_needed(tensors, covariance), iterations=3, covariance=covariance)
        for tensors in (backward, (weights, pretrained, *statistics))
    ]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@every_covariance
@few
@given(seed=seeds)
def test_a_common_factor_on_statistics_does_not_matter(covariance, seed):
    weights, pretrained, *statistics = full_problem(seed)
    smaller = (weights, pretrained, *(1e-6 * each for each in statistics))
    found = [
        mats(*only_needed(tensors, covariance), iterations=3, covariance=covariance)
        for tensors in (smaller, (weights, pretrained, *statistics))
    ]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@every_covariance
@few
@given(seed=seeds)
def test_moving_and_stretching_all_models_moves_and_stretches_the_result(
    covariance, seed
):
    weights, pretrained, *statistics = full_problem(seed)
    shift = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).double()
    changed = (2 * weights + shift, 2 * pretrained + shift, *statistics)
    merged = mats(
        *only_needed((weights, pretrained, *statistics), covariance),
        iterations=3,
        covariance=covariance,
    )
    moved = mats(*only_needed(changed, covariance), iterations=3, covariance=covariance)
    torch.testing.assert_close(moved, 2 * merged + shift, rtol=1e-8, atol=1e-8)


@every_covariance
def test_a_single_expert_is_reached_from_anywhere(covariance):
    tensors = full_problem(seed=0, experts=1)
    merged = mats(
        *only_needed(tensors, covariance), iterations=500, covariance=covariance
    )
    torch.testing.assert_close(merged, tensors[0][0], rtol=1e-4, atol=1e-5)


@few
@given(seed=seeds)
def test_needs_no_more_steps_than_there_are_inputs(seed):
    weights, pretrained, grams = problem(seed, d_out=20)
    merged = mats(weights, pretrained, grams, iterations=30)
    early = mats(weights, pretrained, grams, iterations=6)
    # All rows share one spectrum, but not one polynomial: d steps suffice for a vector,
    # d times the number of rows are never needed.
    torch.testing.assert_close(early, merged, rtol=1e-3, atol=1e-3)


@every_covariance
@few
@given(seed=seeds)
def test_what_no_expert_ever_saw_keeps_its_start(covariance, seed):
    weights, pretrained, grams, gradients, fisher = full_problem(seed)
    grams[:, 2] = 0
    grams[:, :, 2] = 0
    fisher[:, :, 2] = 0
    tensors = (weights, pretrained, grams, gradients, fisher)
    merged = mats(
        *only_needed(tensors, covariance), initial_scale=0.2, covariance=covariance
    )
    start = pretrained + 0.2 * (weights - pretrained).sum(dim=0)
    torch.testing.assert_close(merged[:, 2], start[:, 2], rtol=0, atol=1e-12)
    assert not torch.allclose(merged[:, 1], start[:, 1], rtol=0, atol=1e-3)


@few
@given(seed=seeds)
def test_outputs_without_gradients_keep_their_start(seed):
    weights, pretrained, grams, gradients, _ = full_problem(seed)
    gradients[:, 1] = 0
    gradients[:, :, 1] = 0
    merged = mats(
        weights, pretrained, grams, gradients, initial="average", covariance="kfac"
    )
    mean = weights.mean(dim=0)
    torch.testing.assert_close(merged[1], mean[1], rtol=0, atol=1e-12)


@few
@given(seed=seeds)
def test_singular_grams_in_float32_do_not_blow_up(seed):
    weights, pretrained, grams = problem(seed, tokens=1)
    merged = mats(
        weights.float(), pretrained.float(), grams.float(), initial="average"
    ).double()
    mean = weights.mean(dim=0)
    expected = regmean(weights, grams, off_diagonal=1.0)
    assert (merged - mean).norm() < 2 * (expected - mean).norm() + 1e-3


@every_covariance
def test_no_information_at_all_leaves_the_start(covariance):
    weights, pretrained, *statistics = full_problem(seed=0)
    nothing = (weights, pretrained, *(0 * each for each in statistics))
    merged = mats(
        *only_needed(nothing, covariance), initial="average", covariance=covariance
    )
    torch.testing.assert_close(merged, weights.mean(dim=0))


@every_covariance
def test_experts_that_are_zero_are_reached_without_dividing_by_zero(covariance):
    weights, pretrained, *statistics = full_problem(seed=0)
    tensors = only_needed((weights * 0, pretrained, *statistics), covariance)
    merged = mats(*tensors, iterations=10_000, covariance=covariance)
    torch.testing.assert_close(merged, weights[0] * 0)


def test_starting_at_the_solution_stays_there():
    weights, pretrained, grams = problem(seed=0)
    weights[:] = weights[0]
    merged = mats(weights, pretrained, grams, initial="average")
    torch.testing.assert_close(merged, weights[0])


@every_covariance
@pytest.mark.parametrize(("d_out", "d_in"), [(0, 6), (4, 0), (1, 1)])
def test_layers_may_be_tiny_or_empty(covariance, d_out, d_in):
    tensors = [tensor.float() for tensor in full_problem(0, d_out=d_out, d_in=d_in)]
    merged = mats(*only_needed(tensors, covariance), covariance=covariance)
    assert merged.shape == (d_out, d_in)
    assert merged.isfinite().all()


def test_every_covariance_needs_its_own_statistics():
    needs = {
        covariance: METHOD.needs_of(options(covariance=covariance))
        for covariance in COVARIANCES
    }
    assert needs == {
        "inputs": {Need.PRETRAINED, Need.GRAM},
        "kfac": {Need.PRETRAINED, Need.GRAM, Need.GRADIENT},
        "diagonal": {Need.PRETRAINED, Need.FISHER},
    }
    assert METHOD.needs_of(METHOD.recipe().options) == needs["inputs"]


@every_covariance
@few
@given(seed=seeds)
def test_the_system_is_the_sum_of_what_the_fisher_information_is_taken_as(
    covariance, seed
):
    tensors = full_problem(seed)
    weights, _, *statistics = only_needed(tensors, covariance)
    system, target = matching(covariance, weights, *statistics)
    matrix, right = dense_system(tensors, covariance)
    np.testing.assert_allclose(target.numpy().ravel(), right, rtol=1e-12)
    anything = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).double()
    left = matrix @ anything.numpy().ravel()
    np.testing.assert_allclose(system(anything).numpy().ravel(), left, atol=1e-10)
