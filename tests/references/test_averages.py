"""Averages, arcs and sums of whole models by hand, with every option."""

import numpy as np
import pytest


def average(problem, weights=None, normalize=True):
    summed = problem.total(problem.weighted(problem.wide, weights))
    count = len(problem.names) if weights is None else sum(weights)
    return {n: values / (count if normalize else 1) for n, values in summed.items()}


def fisher(problem, floor=0.0, normalize=False, coefficients=None):
    information = {n: f.astype(float) for n, f in problem.fisher.items()}
    if normalize:
        norms = np.linalg.norm(problem.rows(information, problem.shapes), axis=1)
        information = problem.weighted(information, 1 / norms)
    information = {n: np.maximum(f, floor) for n, f in information.items()}
    information = problem.weighted(information, coefficients)
    above = problem.total({n: information[n] * problem.wide[n] for n in problem.shapes})
    return {n: above[n] / information[n].sum(axis=0) for n in problem.shapes}


def slerp(problem, t=0.5, variant="raw", scope="model"):
    merged = {}
    for names in problem.parts(scope):
        one, other = problem.rows(problem.wide, names)
        norms = np.linalg.norm(one), np.linalg.norm(other)
        cosine = one @ other / (norms[0] * norms[1])
        weights = np.array([1 - t, t])
        if abs(cosine) <= 0.9995:
            omega = np.arccos(cosine)
            weights = np.sin(omega * weights) / np.sin(omega)
        if variant == "unit":
            weights = weights / norms * ((1 - t) * norms[0] + t * norms[1])
        arc = weights[0] * one + weights[1] * other
        merged |= problem.split_one(arc, names)
    return merged


def mlerp(problem, scope="model"):
    merged = {}
    for names in problem.parts(scope):
        vectors = problem.rows(problem.wide, names)
        mean = vectors.mean(axis=0)
        longest = np.linalg.norm(vectors, axis=1).max()
        merged |= problem.split_one(mean * longest / np.linalg.norm(mean), names)
    return merged


def task_arithmetic(problem, weights=None):
    return problem.total(problem.weighted(problem.changes, weights))


def model_stock(problem, clamp=True, scope="tensor"):
    merged = {}
    experts = len(problem.names)
    for names in problem.parts(scope):
        vectors = problem.rows(problem.changes, names)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = np.mean((units @ units.T)[np.triu_indices(experts, 1)])
        if clamp:
            cosine = max(cosine, 0)
        t = min(experts * cosine / (1 + (experts - 1) * cosine), 1)
        mean = t * vectors.mean(axis=0)
        merged |= problem.split_one(mean, names)
    return merged


WEIGHTS = {"weights": (1.0, 0.5, 2.0)}

CASES = {
    average: [WEIGHTS, {"normalize": False}, {"normalize": False, **WEIGHTS}],
    slerp: [{"t": 0.2}, {"variant": "unit"}, {"scope": "tensor"}],
    mlerp: [{"scope": "tensor"}],
    task_arithmetic: [WEIGHTS],
    model_stock: [{"clamp": False}, {"scope": "model"}],
    fisher: [
        {"floor": 0.5},
        {"normalize": True},
        {"normalize": True, "floor": 0.1},
        {"coefficients": (1.0, 3.0, 0.5)},
    ],
}


@pytest.mark.parametrize(
    ("function", "options"),
    [(function, options) for function in CASES for options in [{}, *CASES[function]]],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_merging_is_what_the_paper_says(compare, function, options):
    compare(function, options)


@pytest.mark.parametrize("function", CASES)
def test_every_option_has_a_case(check_options, function):
    check_options(function.__name__, CASES[function])
