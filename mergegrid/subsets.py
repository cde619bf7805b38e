"""Which experts are merged with one another: subsets, as the papers sample them."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.experiment import Combinations, Nested, Subsets

MOST_ORDERS_TRIED = 10_000
"""Random orders drawn before nested sampling gives up; far more than any grid needs."""


def chosen_subsets(
    subsets: Subsets, held_in: Sequence[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """List the subsets that a block of the grid asks for.

    Args:
        subsets: how they are chosen.
        held_in: all experts, in the suite's order.

    Yields:
        Sample number and subset, in the suite's order. The subsets of a sample are
        nested; those that are not nested have the number 0.

    Raises:
        InputError: if an expert is named twice, or there are not as many subsets as are
            asked for.
        UnknownNameError: if there is no such expert.
    """
    for sample, subset in _chosen(subsets, held_in):
        for expert in subset:
            if expert not in held_in:
                raise UnknownNameError("expert", expert, held_in)
        if len(set(subset)) != len(subset):
            raise InputError(f"The subset {list(subset)} names an expert twice.")
        yield sample, tuple(sorted(subset, key=held_in.index))


def _chosen(
    subsets: Subsets, held_in: Sequence[str]
) -> Iterator[tuple[int, Sequence[str]]]:
    if subsets.given is not None:
        for subset in subsets.given:
            yield 0, subset
    elif subsets.nested is not None:
        yield from nested_subsets(held_in, subsets.nested)
    elif subsets.orders is not None:
        for sample, order in enumerate(subsets.orders.given, start=1):
            for size in subsets.orders.sizes:
                yield sample, order[:size]
    elif subsets.incremental is not None:
        for size in range(2, len(subsets.incremental) + 1):
            yield 1, subsets.incremental[:size]
    elif subsets.combinations is not None:
        for subset in combinations(held_in, subsets.combinations):
            yield 0, subset
    else:
        yield 0, held_in


def combinations(
    experts: Sequence[str], chosen: Combinations
) -> Iterator[tuple[str, ...]]:
    """Draw combinations of experts of every size, each once.

    Args:
        experts: what to draw from.
        chosen: sizes, most of each size and seed.

    Yields:
        The combinations, size by size; which are drawn depends on the seed and the
        size, not on the other sizes.

    Raises:
        InputError: if a size exceeds the number of experts.
    """
    _check_sizes("combinations", chosen.sizes, len(experts))
    for size in chosen.sizes:
        possible = math.comb(len(experts), size)
        if possible <= chosen.most:
            yield from itertools.combinations(experts, size)
            continue
        generator = np.random.default_rng([chosen.seed, size])
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < chosen.most:
            subset = generator.choice(len(experts), size, replace=False)
            drawn[tuple(sorted(subset.tolist()))] = None
        for subset in drawn:
            yield tuple(experts[index] for index in subset)


def nested_subsets(
    experts: Sequence[str], nested: Nested
) -> list[tuple[int, list[str]]]:
    """Draw nested subsets: random orders of the experts, each cut at every size.

    No two samples share a subset of the same size, save for all experts together, so
    that samples are different merges (Realistic Evaluation, App. G, draws nested
    prefixes of permutations for the same reason).

    Args:
        experts: what to draw from.
        nested: sizes, number of samples and seed.

    Returns:
        Sample number (from 1) and subset, sample by sample, from small to large.

    Raises:
        InputError: if a size exceeds the number of experts, or there are fewer
            different subsets than samples.
    """
    count = len(experts)
    _check_sizes("nested", nested.sizes, count)
    everyone = list(experts)
    partial = [size for size in nested.sizes if size < count]
    possible = min((math.comb(count, size) for size in partial), default=1)
    drawn: list[list[str]] = []
    seen: set[frozenset[str]] = set()
    generator = np.random.default_rng(nested.seed)
    for _ in range(MOST_ORDERS_TRIED):
        if len(drawn) == nested.samples:
            break
        order = [everyone[index] for index in generator.permutation(count).tolist()]
        prefixes = {frozenset[str](order[:size]) for size in partial}
        if not prefixes & seen:
            seen |= prefixes
            drawn.append(order)
        if not partial:
            break
    if len(drawn) < nested.samples and partial:
        raise InputError(
            f"nested.samples: {nested.samples} different samples of sizes "
            f"{list(nested.sizes)} from {count} experts cannot be drawn; "
            f"there are at most {possible}. Take fewer samples."
        )
    return [
        (sample, order[:size])
        for sample, order in enumerate(drawn, start=1)
        for size in nested.sizes
    ]


def _check_sizes(kind: str, sizes: Sequence[int], count: int) -> None:
    if max(sizes) > count:
        raise InputError(
            f"{kind}.sizes: a subset of {max(sizes)} experts is larger than the suite, "
            f"which has {count}; take sizes up to {count}."
        )
