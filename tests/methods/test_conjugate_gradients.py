"""Conjugate gradients on small systems against solutions by NumPy, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mergegrid.methods.conjugate_gradients import (
    EXHAUSTED,
    conjugate_gradients,
    iterate,
)

seeds = st.integers(0, 2**32 - 1)


def positive(random, size):
    rows = random.normal(size=(3 * size, size)) * np.linspace(1, 3, size)
    return rows.T @ rows / len(rows)


def problem(seed, d_out=4, d_in=6):
    """The system L X R = target, and the matrix of it over the rows of X in a row."""
    random = np.random.default_rng(seed)
    left, right = positive(random, d_out), positive(random, d_in)
    one, other = torch.tensor(left), torch.tensor(right)
    target = torch.tensor(random.normal(size=(d_out, d_in)))
    return lambda x: one @ x @ other, target, np.kron(left, right)


@given(seed=seeds)
def test_the_error_never_grows_and_every_residual_is_told(seed):
    system, target, matrix = problem(seed)
    right = target.numpy().ravel()
    exact = np.linalg.solve(matrix, right)
    errors = []
    for iterations in range(6):
        found, residuals = conjugate_gradients(
            system, target, torch.zeros_like(target), iterations=iterations
        )
        assert residuals.shape == (iterations + 1,)
        wrong = found.numpy().ravel() - exact
        errors.append(float(wrong @ matrix @ wrong))
        left = np.linalg.norm(right - matrix @ found.numpy().ravel())
        assert residuals[-1] == pytest.approx(left / np.linalg.norm(right), abs=1e-9)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_the_iteration_ends_when_only_rounding_errors_are_left():
    system, target, matrix = problem(seed=0)
    calls = []

    def counting(x):
        calls.append(1)
        return system(x)

    start = torch.zeros_like(target)
    solution, residuals = conjugate_gradients(
        counting, target, start, iterations=10_000
    )
    assert len(calls) == len(residuals) < 100
    assert residuals[-1] <= EXHAUSTED < residuals[0]
    exact = np.linalg.solve(matrix, target.numpy().ravel())
    np.testing.assert_allclose(solution.numpy().ravel(), exact, rtol=1e-4, atol=1e-6)
    # Steps between that and the end changed nothing.
    reached = int((residuals <= EXHAUSTED).nonzero()[0])
    assert (residuals[reached:] == residuals[reached]).all()
    early, _ = conjugate_gradients(system, target, start, iterations=reached)
    assert torch.equal(solution, early)


def test_a_system_without_a_solution_leaves_the_start_as_it_is():
    start = torch.full((1, 2), 3.0, dtype=torch.float64)
    target = torch.ones(1, 2, dtype=torch.float64)
    found, _ = conjugate_gradients(torch.zeros_like, target, start, iterations=5)
    assert torch.equal(found, start)


def test_iterates_start_at_the_start_and_leave_it_untouched():
    system, target, _ = problem(seed=0)
    start = torch.full_like(target, 2.0)
    steps = iterate(system, target, start)
    assert torch.equal(next(steps).solution, start)
    assert not torch.equal(next(steps).solution, start)
    assert torch.equal(start, torch.full_like(target, 2.0))
