"""MaTS against conjugate gradients on the dense system over vec(W), in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.mats import conjugate_gradients, mats
from mergegrid.methods.regmean import regmean

seeds = st.integers(0, 2**32 - 1)


def problem(seed, experts=3, d_out=4, d_in=6, tokens=50):
    random = np.random.default_rng(seed)
    pretrained = random.normal(size=(d_out, d_in))
    weights = pretrained + 0.3 * random.normal(size=(experts, d_out, d_in))
    inputs = random.normal(size=(experts, tokens, d_in)) * np.linspace(1, 3, d_in)
    grams = np.array([x.T @ x / tokens for x in inputs])
    return torch.tensor(weights), torch.tensor(pretrained), torch.tensor(grams)


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


@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
@pytest.mark.parametrize("initial", ["task_arithmetic", "average"])
@given(seed=seeds)
def test_is_conjugate_gradients_on_the_stacked_system(iterations, initial, seed):
    weights, pretrained, grams = problem(seed)
    merged = mats(
        weights,
        pretrained,
        grams,
        iterations=iterations,
        initial=initial,
        initial_scale=0.2,
    )
    start = (
        weights.mean(dim=0)
        if initial == "average"
        else pretrained + 0.2 * (weights - pretrained).sum(dim=0)
    ).numpy()
    # Rows of W one after the other: W S is the Kronecker product of I and S.
    matrix = np.kron(np.eye(4), grams.sum(dim=0).numpy())
    target = sum((w @ g).numpy() for w, g in zip(weights, grams, strict=True)).ravel()
    expected = dense_conjugate_gradients(matrix, target, start.ravel(), iterations)
    np.testing.assert_allclose(merged.numpy().ravel(), expected, rtol=1e-8, atol=1e-10)


@given(seed=seeds)
def test_converges_to_regmean_without_shrinking(seed):
    weights, pretrained, grams = problem(seed)
    merged = mats(weights, pretrained, grams, iterations=100)
    expected = regmean(weights, grams, off_diagonal=1.0)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


@given(seed=seeds)
def test_needs_no_more_steps_than_there_are_inputs(seed):
    weights, pretrained, grams = problem(seed, d_out=20)
    merged = mats(weights, pretrained, grams, iterations=30)
    early = mats(weights, pretrained, grams, iterations=6)
    # All rows share one spectrum, but not one polynomial: d steps suffice for a vector,
    # d times the number of rows are never needed.
    torch.testing.assert_close(early, merged, rtol=1e-3, atol=1e-3)


@given(seed=seeds)
def test_inputs_that_are_always_zero_keep_their_start(seed):
    weights, pretrained, grams = problem(seed)
    grams[:, 2] = 0
    grams[:, :, 2] = 0
    merged = mats(weights, pretrained, grams, initial_scale=0.2)
    start = pretrained + 0.2 * (weights - pretrained).sum(dim=0)
    torch.testing.assert_close(merged[:, 2], start[:, 2], rtol=0, atol=1e-12)


@given(seed=seeds)
def test_singular_grams_in_float32_do_not_blow_up(seed):
    weights, pretrained, grams = problem(seed, tokens=1)
    merged = mats(
        weights.float(), pretrained.float(), grams.float(), initial="average"
    ).double()
    mean = weights.mean(dim=0)
    expected = regmean(weights, grams, off_diagonal=1.0)
    assert (merged - mean).norm() < 2 * (expected - mean).norm() + 1e-3


@given(seed=seeds)
def test_the_error_never_grows(seed):
    weights, _, grams = problem(seed)
    matrix = grams.sum(dim=0)
    target = sum(w @ g for w, g in zip(weights, grams, strict=True))
    exact = torch.linalg.solve(matrix, target.mT).mT
    start = torch.zeros_like(target)
    errors = []
    for iterations in range(6):
        found, residuals = conjugate_gradients(
            matrix, target, start, iterations=iterations
        )
        wrong = found - exact
        errors.append(float((wrong @ matrix * wrong).sum()))
        distance = (target - found @ matrix).norm() / target.norm()
        assert residuals[-1] == pytest.approx(float(distance), abs=1e-9)
    assert errors == sorted(errors, reverse=True)


def test_starting_at_the_solution_stays_there():
    weights, pretrained, grams = problem(seed=0)
    weights[:] = weights[0]
    merged = mats(weights, pretrained, grams, initial="average")
    torch.testing.assert_close(merged, weights[0])


def test_experts_that_are_zero_are_reached_without_dividing_by_zero():
    weights, pretrained, grams = problem(seed=0)
    merged = mats(weights * 0, pretrained, grams, iterations=10_000)
    torch.testing.assert_close(merged, weights[0] * 0)


def test_a_system_without_a_solution_leaves_the_start_as_it_is():
    start = torch.full((1, 2), 3.0, dtype=torch.float64)
    target = torch.ones(1, 2, dtype=torch.float64)
    matrix = torch.zeros(2, 2, dtype=torch.float64)
    found, _ = conjugate_gradients(matrix, target, start, iterations=5)
    assert torch.equal(found, start)


def test_no_input_at_all_is_the_start():
    weights, pretrained, grams = problem(seed=0)
    merged = mats(weights, pretrained, grams * 0, initial="average")
    torch.testing.assert_close(merged, weights.mean(dim=0))
