"""Masks for tasks, and what they agree on, by hand, with every option."""

import numpy as np
import pytest


def multi_task(problem, merge_by, density, selection):
    if merge_by == "task_arithmetic":
        return problem.total(problem.changes)
    kept = problem.trimmed(problem.changes, density, selection)
    return problem.agreed(kept, problem.elected(kept), "sum")


def tall_mask(problem, merged, mask_threshold, comparison):
    masks = {}
    for name, vectors in problem.changes.items():
        limits = problem.each(mask_threshold, len(vectors))
        found = []
        for own, limit in zip(vectors, limits, strict=True):
            bound = limit * np.abs(merged[name] - own)
            equal = (np.abs(own) == bound) & ((own != 0) | (merged[name] != 0))
            found.append((np.abs(own) > bound) | (equal & (comparison == "inclusive")))
        masks[name] = np.array(found)
    return masks


def tall_masks(
    problem,
    density=0.2,
    selection="exact",
    merge_by="task_arithmetic",
    mask_threshold=0.4,
    comparison="inclusive",
):
    merged = multi_task(problem, merge_by, density, selection)
    masks = tall_mask(problem, merged, mask_threshold, comparison)
    return {n: masks[n] * merged[n] for n in problem.shapes}


def consensus(problem, agreement=2, **options):
    settings = {
        "density": 0.2,
        "selection": "exact",
        "merge_by": "task_arithmetic",
        "mask_threshold": 0.4,
        "comparison": "inclusive",
    } | options
    limits = settings.pop("mask_threshold"), settings.pop("comparison")
    merged = multi_task(problem, **settings)
    masks = tall_mask(problem, merged, *limits)
    return {n: (masks[n].sum(axis=0) >= agreement) * merged[n] for n in problem.shapes}


def magnitude_masking(problem, density=0.1, selection="exact"):
    kept = problem.trimmed(problem.changes, density, selection)
    summed = problem.total(problem.changes)
    return {n: (kept[n] != 0) * summed[n] for n in problem.shapes}


def magnitude_pruning(problem, density=0.1, selection="exact"):
    return problem.trimmed(problem.changes, density, selection)


def emr(problem, scope="model"):
    merged = {}
    for names in problem.parts(scope):
        vectors = problem.rows(problem.changes, names)
        signs = np.where(vectors.sum(axis=0) > 0, 1, -1)
        unified = signs * np.max(np.maximum(vectors * signs, 0), axis=0)
        masked = (vectors * unified > 0) * unified
        before, after = np.abs(vectors).sum(axis=1), np.abs(masked).sum(axis=1)
        factors = np.divide(before, after, out=np.ones(len(after)), where=after > 0)
        merged |= problem.split(factors[:, None] * masked, names)
    return merged


TRIMMING = [
    {"density": 0.5},
    {"density": (0.1, 0.5, 1.0)},
    {"density": 0.01, "selection": "at_least_one"},
    {"density": 0.5, "selection": "threshold"},
    {"density": 0.5, "selection": "random"},
]
MASKING = [
    {"mask_threshold": 0.8},
    {"mask_threshold": (0.2, 0.5, 1.0)},
    {"comparison": "strict"},
    {"merge_by": "ties"},
    *({"merge_by": "ties", **options} for options in TRIMMING),
]

CASES = {
    consensus: [*MASKING, {"agreement": 1}, {"agreement": 3}],
    tall_masks: MASKING,
    magnitude_masking: TRIMMING,
    magnitude_pruning: TRIMMING,
    emr: [{"scope": "tensor"}],
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
