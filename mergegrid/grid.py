"""An experiment's grid, expanded into cells.

A cell is one merge configuration: a method, its options, a subset of the experts and
a seed. Two spellings of one configuration are one cell.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mergegrid.canonical import JSON, canonical_json
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.experiment import Block, Experiment, MethodChoice, Nested
from mergegrid.methods import get_method
from mergegrid.methods.method import Method
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import check_number_of_values

BEST = "best"
"""An option's value: the one that other cells over the same experts do best with on
held-in validation; `Method.best` says which cells."""

ONE_OVER_M = "1/M"
"""An option's value: one over the number of experts."""

MOST_ORDERS_TRIED = 10_000
"""Random orders drawn before nested sampling gives up; far more than any grid needs."""


@dataclass(frozen=True)
class Cell:
    """One merge configuration."""

    method: str
    """The method's name."""

    version: int
    """The method's version."""

    options: Mapping[str, Option] = field(hash=False)
    """Every option; `BEST` where the value waits for other cells' scores."""

    swept: tuple[str, ...]
    """The options that vary in the grid."""

    experts: tuple[str, ...]
    """The tasks whose experts are merged, in the suite's order."""

    sample: int
    """Which nested sample the subset belongs to; 0 for all and for given subsets."""

    seed: int
    """Decides the draws of a method that draws at random; 0 for all other methods."""

    @property
    def identity(self) -> dict[str, JSON]:
        """What tells this cell from the grid's others, as plain values."""
        return {
            "method": self.method,
            "version": self.version,
            "options": dict(self.options),
            "experts": self.experts,
            "seed": self.seed,
        }

    @property
    def waits(self) -> tuple[str, ...]:
        """The options whose values wait for other cells' scores."""
        return tuple(name for name, value in self.options.items() if value == BEST)

    def resolved(self, best: Mapping[str, Option]) -> dict[str, Option]:
        """Fill in the options that waited.

        Args:
            best: each of them with its value.

        Returns:
            Every option with its value.
        """
        return dict(self.options) | dict(best)


def expand(experiment: Experiment) -> tuple[Cell, ...]:
    """Expand an experiment into its cells.

    Args:
        experiment: the experiment.

    Returns:
        The cells in the order of the file, each once.

    Raises:
        InputError: if an expert is unknown, a subset does not fit the suite or the
            method, an option is out of range, or `best` has nothing to choose from.
    """
    held_in = tuple(
        task.name for task in experiment.open_suite().tasks() if task.held_in
    )
    cells: dict[str, Cell] = {}
    for block in experiment.grid:
        for cell in _block_cells(block, held_in):
            cells.setdefault(canonical_json(cell.identity), cell)
    choosers = Choosers(cells.values())
    for cell in cells.values():
        for option in cell.waits:
            if not choosers.of(cell, option):
                choice = get_method(cell.method).best[option]
                others = f" with the same {', '.join(choice.alike)}" * bool(
                    choice.alike
                )
                raise InputError(
                    f"{cell.method} takes the {option} that {choice.method} does best "
                    f"with, but the grid has no {choice.method} over the same "
                    f"{len(cell.experts)} experts{others}: add it, or give {option} a "
                    f"value."
                )
    return tuple(cells.values())


class Choosers:
    """The cells among whose options others choose the best.

    Args:
        cells: the grid.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._cells: dict[tuple[str, tuple[str, ...]], list[Cell]] = {}
        for cell in cells:
            if not cell.waits:
                self._cells.setdefault((cell.method, cell.experts), []).append(cell)

    def of(self, cell: Cell, option: str) -> list[Cell]:
        """Find the cells that an option waits for.

        Args:
            cell: a cell.
            option: one that it waits with.

        Returns:
            The cells that are compared, in the grid's order.
        """
        choice = get_method(cell.method).best[option]
        return [
            other
            for other in self._cells.get((choice.method, cell.experts), [])
            if all(other.options[name] == cell.options[name] for name in choice.alike)
        ]


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
    if max(nested.sizes) > count:
        raise InputError(
            f"nested.sizes: a subset of {max(nested.sizes)} experts is larger than the "
            f"suite, which has {count}; take sizes up to {count}."
        )
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


def _block_cells(block: Block, held_in: tuple[str, ...]) -> Iterator[Cell]:
    for sample, subset in _subsets(block, held_in):
        for choice in block.methods:
            method = get_method(choice.name)
            _check_size(method, len(subset))
            for options, swept in _options(method, choice, len(subset)):
                for seed in block.seeds if method.draws(options) else (0,):
                    yield Cell(
                        method=method.name,
                        version=method.version,
                        options=options,
                        swept=swept,
                        experts=subset,
                        sample=sample,
                        seed=seed,
                    )


def _subsets(
    block: Block, held_in: tuple[str, ...]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    if block.subsets.nested is not None:
        chosen = nested_subsets(held_in, block.subsets.nested)
    elif block.subsets.given is not None:
        chosen = [(0, list(subset)) for subset in block.subsets.given]
    else:
        chosen = [(0, list(held_in))]
    for sample, subset in chosen:
        for expert in subset:
            if expert not in held_in:
                raise UnknownNameError("expert", expert, held_in)
        if len(set(subset)) != len(subset):
            raise InputError(f"The subset {subset} names an expert twice.")
        yield sample, tuple(sorted(subset, key=held_in.index))


def _check_size(method: Method, size: int) -> None:
    fewest, most = method.experts
    if size < fewest or (most is not None and size > most):
        takes = f"exactly {fewest}" if fewest == most else f"at least {fewest}"
        raise InputError(
            f"{method.name} merges {takes} experts, but the grid asks for {size}; "
            "give it a block with subsets that fit."
        )


def _options(
    method: Method, choice: MethodChoice, size: int
) -> Iterator[tuple[dict[str, Option], tuple[str, ...]]]:
    lists = {name: list(values) for name, values in method.sweep.items()}
    for name, written in choice.options.items():
        lists[name] = written if isinstance(written, list) else [written]
        if not lists[name]:
            raise InputError(f"{method.name}: the list of {name} is empty.")
    swept = tuple(sorted(name for name, values in lists.items() if len(values) > 1))
    for values in itertools.product(*lists.values()):
        given = {
            name: 1 / size if value == ONE_OVER_M else value
            for name, value in zip(lists, values, strict=True)
        }
        waits = [name for name, value in given.items() if value == BEST]
        known = {name: value for name, value in given.items() if name not in waits}
        # The recipe checks ranges and spells defaults out.
        spelt = dict(method.recipe(known).options)
        for name in method.per_expert:
            check_number_of_values(name, spelt[name], size)
        for name in waits:
            if name not in method.best:
                raise InputError(f"{method.name}: {name} cannot be {BEST!r}.")
            spelt[name] = BEST
        yield spelt, swept
