"""Merges with learned coefficients by hand; tests/learning is about learning them."""

import pytest


def supermerge(problem):
    return {
        n: problem.pretrained[n].astype(float)
        + problem.total(problem.weighted_by(problem.changes, problem.coefficients))[n]
        for n in problem.shapes
    }


def hierarchical_supermerge(problem):
    return supermerge(problem)


def adamerging(problem):
    return supermerge(problem)


def adamerging_pp(
    problem, density=0.2, selection="exact", zero_sum="majority", scope="model"
):
    kept = problem.trimmed(problem.changes, density, selection, scope)
    signs = problem.elected(kept, zero_sum, scope)
    agreeing = {n: (kept[n] * signs[n] > 0) * kept[n] for n in problem.shapes}
    merged = problem.total(problem.weighted_by(agreeing, problem.coefficients))
    return {n: problem.pretrained[n].astype(float) + merged[n] for n in merged}


CASES = {
    supermerge: [],
    hierarchical_supermerge: [],
    adamerging: [],
    adamerging_pp: [
        {"density": 0.5},
        {"density": (0.1, 0.5, 1.0)},
        {"density": 0.01, "selection": "at_least_one"},
        {"density": 0.5, "selection": "threshold"},
        {"density": 0.5, "selection": "random"},
        {"zero_sum": "tensor_majority"},
        {"zero_sum": "strict"},
        {"zero_sum": "plus"},
        {"scope": "tensor"},
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
