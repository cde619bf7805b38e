"""An experiment's grid, expanded into cells.

A cell is one merge configuration: a method, its options, a subset of the experts and
a seed. Two spellings of one configuration are one cell.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mergegrid.canonical import JSON, canonical_json
from mergegrid.errors import InputError
from mergegrid.experiment import Block, Experiment, MethodChoice
from mergegrid.methods import get_method
from mergegrid.methods.method import Method
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import check_number_of_values
from mergegrid.subsets import chosen_subsets

BEST = "best"
"""An option's value: the one that other cells over the same experts do best with on
held-in validation; `Method.best` says which cells."""

ONE_OVER_M = "1/M"
"""An option's value: one over the number of experts."""


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
    """Which nested sample the subset belongs to; 0 if it is not nested in others."""

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


def _block_cells(block: Block, held_in: tuple[str, ...]) -> Iterator[Cell]:
    for sample, subset in chosen_subsets(block.subsets, held_in):
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
