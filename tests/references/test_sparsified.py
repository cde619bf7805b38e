"""Methods that drop, trim and elect, by hand, with every option."""

from fractions import Fraction

import numpy as np
import pytest


def rescaled(kept, changes, rates, rescale):
    """Make up for what was dropped at some rates, by name and expert."""
    result = {}
    for name, vectors in kept.items():
        result[name] = vectors.copy()
        for expert, vector in enumerate(vectors):
            if rescale == "inverse":
                result[name][expert] = vector / (1 - rates[name][expert])
            elif rescale == "norm" and np.abs(vector).sum() > 0:
                before = np.abs(changes[name][expert]).sum()
                result[name][expert] = vector * before / np.abs(vector).sum()
    return result


def thinned(problem, drop_rate=0.5, rescale="inverse"):
    draws = problem.draws()
    each = problem.each(drop_rate, len(problem.names))
    rates = {
        n: np.array([np.full(shape, rate) for rate in each])
        for n, shape in problem.shapes.items()
    }
    kept = {n: problem.changes[n] * (draws[n] >= rates[n]) for n in problem.shapes}
    return rescaled(kept, problem.changes, rates, rescale)


def dare(problem, weights=None, **thinning):
    return problem.total(problem.weighted(thinned(problem, **thinning), weights))


def ties(
    problem,
    density=0.2,
    selection="exact",
    election="mass",
    zero_sum="majority",
    aggregate="mean",
    weights=None,
    scope="model",
    changes=None,
):
    changes = problem.changes if changes is None else changes
    kept = problem.trimmed(changes, density, selection, scope)
    kept = problem.weighted(kept, weights)
    signs = problem.signs
    if election == "mass":
        signs = problem.elected(kept, zero_sum, scope)
    return problem.agreed(kept, signs, aggregate, weights)


def dare_ties(problem, drop_rate=0.5, rescale="inverse", **options):
    return ties(problem, changes=thinned(problem, drop_rate, rescale), **options)


def fused(problem, changes, election, zero_sum, aggregate, weights, scope):
    each_weighted = problem.weighted(changes, weights)
    if election == "none":
        return problem.total(each_weighted)
    signs = problem.elected(each_weighted, zero_sum, scope)
    return problem.agreed(each_weighted, signs, aggregate, weights)


def lines(array):
    """Views of the rows of a tensor along its last axis."""
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def della(
    problem,
    drop_rate=0.3,
    window=0.14,
    rescale="inverse",
    election="mass",
    zero_sum="majority",
    aggregate="mean",
    weights=None,
    scope="model",
):
    experts, draws = len(problem.names), problem.draws()
    rates = {n: np.zeros((experts, *s)) for n, s in problem.shapes.items()}
    settings = problem.each(drop_rate, experts), problem.each(window, experts)
    for expert, (rate, width) in enumerate(zip(*settings, strict=True)):
        for name, changes in problem.changes.items():
            of_rows = lines(rates[name][expert])
            for row, values in zip(of_rows, lines(changes[expert]), strict=True):
                for rank, place in enumerate(np.argsort(np.abs(values), kind="stable")):
                    row[place] = rate
                    if len(row) > 1:
                        row[place] += width / 2 - width * rank / (len(row) - 1)
            rates[name][expert] = of_rows.reshape(problem.shapes[name])
    kept = {n: problem.changes[n] * (draws[n] >= rates[n]) for n in problem.shapes}
    kept = rescaled(kept, problem.changes, rates, rescale)
    return fused(problem, kept, election, zero_sum, aggregate, weights, scope)


def breadcrumbs(
    problem,
    keep=0.1,
    outliers=0.01,
    extent="row",
    election="none",
    zero_sum="majority",
    aggregate="mean",
    weights=None,
    scope="model",
):
    experts = len(problem.names)
    kept = {n: np.zeros((experts, *s)) for n, s in problem.shapes.items()}
    settings = problem.each(keep, experts), problem.each(outliers, experts)
    for expert, (fraction, largest) in enumerate(zip(*settings, strict=True)):
        for name, changes in problem.changes.items():
            change = changes[expert] if extent == "row" else changes[expert].reshape(-1)
            masked = [np.zeros_like(row) for row in lines(change)]
            for row, values in zip(masked, lines(change), strict=True):
                count = max(problem.share(fraction, len(values)), 1)
                first = min(problem.share(largest, len(values)), len(values) - count)
                order = np.argsort(-np.abs(values), kind="stable")
                chosen = order[first : first + count]
                row[chosen] = values[chosen]
            kept[name][expert] = np.array(masked).reshape(problem.shapes[name])
    return fused(problem, kept, election, zero_sum, aggregate, weights, scope)


def pcb(problem, clip=0.0001, keep=0.1, scope="model"):
    merged = {}
    for names in problem.parts(scope):
        vectors = problem.rows(problem.changes, names)
        experts, count = vectors.shape

        def quantile(values, fraction, count=count):
            return np.sort(values)[min(problem.share(fraction, count), count - 1)]

        above, below = np.zeros(count), np.zeros(count)
        for vector in vectors:
            sizes = np.abs(vector)
            low = quantile(sizes, clip)
            high = quantile(sizes, 1 - Fraction(str(clip)))
            clipped = np.clip(sizes, low, high)
            place = (clipped - low) / (high - low) if high > low else 0 * clipped
            scores = np.exp(experts * (place**2 - 1))
            scores = scores * np.tanh(vector * vectors.sum(axis=0))
            scores = scores.astype(np.float32).astype(float)
            least = quantile(scores, 1 - Fraction(str(keep)))
            if scores.max() > least:
                weights = np.maximum(scores - least, 0) / (scores.max() - least)
            else:
                weights = ((scores >= least) & (scores > 0)).astype(float)
            above += weights * np.sign(vector) * clipped
            below += weights
        mean = np.divide(above, below, out=np.zeros(count), where=below > 0)
        merged |= problem.split_one(mean, names)
    return merged


WEIGHTS = {"weights": (1.0, 0.5, 2.0)}
ELECTING = [
    {"zero_sum": "tensor_majority"},
    {"zero_sum": "strict"},
    {"zero_sum": "plus"},
    {"aggregate": "sum"},
    {"aggregate": "max"},
    {"aggregate": "sum", **WEIGHTS},
    WEIGHTS,
    {"scope": "tensor"},
]
TRIMMING = [
    {"density": 0.5},
    {"density": (0.1, 0.5, 1.0)},
    {"density": 0.01, "selection": "at_least_one"},
    {"density": 0.5, "selection": "threshold"},
    {"density": 0.5, "selection": "random"},
]
THINNING = [
    {"drop_rate": 0.0},
    {"drop_rate": 0.9},
    {"drop_rate": (0.1, 0.5, 0.7)},
    {"rescale": "norm"},
    {"rescale": "none"},
]

SIGN_SOURCES = ("given", "multitask", "few_shot", "few_shot_average")

CASES = {
    dare: [*THINNING, WEIGHTS],
    ties: [
        *ELECTING,
        *TRIMMING,
        *({"election": source, "density": 0.7} for source in SIGN_SOURCES),
    ],
    dare_ties: [
        *({"density": 0.4, **options} for options in (*ELECTING, *THINNING)),
        *TRIMMING,
    ],
    della: [
        *ELECTING,
        *({"window": 0.0, **options} for options in THINNING),
        {"drop_rate": 0.5, "window": 0.6},
        {"drop_rate": (0.2, 0.5, 0.7), "window": (0.1, 0.6, 0.0)},
        {"election": "none"},
    ],
    breadcrumbs: [
        *({"election": "mass", "keep": 0.5, **options} for options in ELECTING),
        {"keep": 0.5, "outliers": 0.2},
        {"keep": (0.2, 0.5, 1.0), "outliers": (0.2, 0.0, 0.4)},
        {"extent": "tensor", "keep": 0.3, "outliers": 0.1},
        WEIGHTS,
    ],
    pcb: [{"clip": 0.1}, {"keep": 0.5}, {"scope": "tensor", "keep": 0.5}],
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
