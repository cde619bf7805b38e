"""The results of a large grid, as if it had run, to try out what reads them.

    python -m benchmarks.grids ROOT [--samples 6] [--missing 0.0]

Keys, recipes, lineage and the shape of every record are those that a run would leave;
only the numbers are drawn: a method has its strength, a task its difficulty, an option
its optimum. Nothing is trained or merged, and no artifact is stored.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from mergegrid.costs import Cost
from mergegrid.evaluation import Tally
from mergegrid.experiment import Experiment, parse_experiment
from mergegrid.experiment_steps import build_steps
from mergegrid.methods import METHODS
from mergegrid.methods.options import Option
from mergegrid.steps import Scored, Steps
from mergegrid.suites.suite import Split
from storage.ledger import Ledger
from storage.results import Results
from storage.root import Root
from tasks.record import Row, cell_row, experiment_row, score_rows

CELLS_IN_RECORD = 100
EXAMPLES = 96
BEST = 0.4
"""What an option that waits for others' scores turns out to be."""

COSTS = {
    "pretrain": Cost(seconds=600.0, flops=8 * 10**15),
    "train": Cost(seconds=90.0, flops=10**15),
    "multitask": Cost(seconds=300.0, flops=4 * 10**15),
    "data": Cost(seconds=20.0),
}
STATISTIC = Cost(seconds=4.0, flops=10**13, examples=256)


def large_experiment(samples: int) -> Experiment:
    """Describe a grid of every method, swept as in its paper.

    Args:
        samples: nested samples of 2 to 11 of the twelve experts, some 2,000 cells each.

    Returns:
        The experiment.
    """
    methods = [name for name in METHODS if name != "slerp"]
    nested = {"sizes": list(range(2, 12)), "samples": samples}
    document = {
        "name": "large",
        "description": "Every method, swept as in its paper; all numbers are drawn.",
        "suite": {"name": "glyphs"},
        "training": {"pretrain": {}, "expert": {}, "multitask": {}},
        "grid": [
            {"methods": methods},
            {"methods": methods, "subsets": {"nested": nested}},
        ],
    }
    return parse_experiment(document, source="benchmarks.grids")


def record_grid(ledger: Ledger, experiment: Experiment, missing: float = 0.0) -> int:
    """Record an experiment as its run would.

    Args:
        ledger: where the records go.
        experiment: the experiment.
        missing: the fraction of the cells that have no scores yet.

    Returns:
        How many cells there are.
    """
    steps = build_steps(experiment)
    ledger.append(f"experiment-{experiment.name}", [experiment_row(steps)])
    for step in steps.artifacts.values():
        cost = COSTS.get(step.name, STATISTIC)
        ledger.append(step.key, _artifact_rows(step.key, step.name, step.parents, cost))
    entries = [*steps.scored.values()]
    ledger.append(
        f"cells-{experiment.name}-{steps.definition}",
        [cell_row(steps, entry, options_of(entry)) for entry in entries],
    )
    draws = _Draws(steps)
    merges = [entry for entry in entries if not entry.is_reference]
    scored = [entry for entry in entries if entry.is_reference]
    scored += merges[: round(len(merges) * (1 - missing))]
    waiting = iter(scored)
    while chunk := [*islice(waiting, CELLS_IN_RECORD)]:
        rows = [row for entry in chunk for row in draws.rows(entry)]
        ledger.append(chunk[0].step.key, rows)
    return len(merges)


def options_of(entry: Scored) -> dict[str, Option]:
    """Give a cell's options, those that wait with a value.

    Args:
        entry: the cell.

    Returns:
        Every option with its value.
    """
    return entry.cell.resolved(dict.fromkeys(entry.cell.waits, BEST))


class _Draws:
    """Scores and costs that look like a grid's.

    Args:
        steps: the experiment.
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.random = np.random.default_rng(0)
        names = [task.name for task in steps.tasks]
        self.ease = {name: self.random.normal(0.4, 0.8) for name in names}
        self.strength = {
            method: self.random.normal(0, 0.35, 2)
            for method in [*METHODS, "pretrained", "individual", "multitask"]
        }

    def rows(self, entry: Scored) -> Iterator[Row]:
        """Draw what is recorded of a cell or a model for reference."""
        tallies = {
            key: Tally(float(count), EXAMPLES)
            for key, count in zip(self._splits(entry), self._counts(entry), strict=True)
        }
        seconds = float(self.random.gamma(4, 0.05))
        costs = {"evaluate": Cost(seconds=seconds, flops=10**12)}
        if not entry.is_reference:
            flops = 10 ** self.random.uniform(6, 10) * len(entry.cell.experts)
            costs["merge"] = Cost(seconds=seconds / 3, flops=int(flops))
        yield from score_rows(self.steps, entry, tallies, costs)

    def _splits(self, entry: Scored) -> list[tuple[str, Split]]:
        tasks = self.steps.tasks
        held_in = entry.cell.experts or [task.name for task in tasks if task.held_in]
        found: list[tuple[str, Split]] = [(name, "validation") for name in held_in]
        found += [(name, "test") for name in held_in]
        if not entry.is_per_task:
            found += [(task.name, "test") for task in tasks if not task.held_in]
        return found

    def _counts(self, entry: Scored) -> Sequence[int]:
        strength = self.strength[entry.cell.method]
        own = set(entry.cell.experts)
        crowd = math.log2(max(len(own), 1))
        off = sum(
            min(abs(float(value) - BEST), 1)
            for name, value in options_of(entry).items()
            if name in entry.cell.swept and isinstance(value, int | float)
        )
        gains = {
            True: 2 - 0.4 * crowd + strength[0],
            False: 0.1 * crowd + strength[1],
        }
        logits = [
            self.ease[task] + gains[task in own] - 0.5 * off
            for task, _ in self._splits(entry)
        ]
        chances = 1 / (1 + np.exp(-np.array(logits)))
        return self.random.binomial(EXAMPLES, chances).tolist()


def _artifact_rows(
    key: str, step: str, parents: Sequence[str], cost: Cost
) -> list[Mapping[str, object]]:
    now = "2026-01-01T00:00:00+00:00"
    return [
        {
            "table": "costs",
            "step": key,
            "stage": step,
            "seconds": cost.seconds,
            "flops": cost.flops,
            "examples": cost.examples,
            "device": "none: drawn",
            "recorded_at": now,
        },
        {
            "table": "artifacts",
            "artifact": key,
            "step": step,
            "version": 1,
            "inputs": "{}",
            "bytes": 10**8,
            "digest": "{}",
            "created_at": now,
        },
        *(
            {"table": "lineage", "child": key, "parent": p}
            for p in sorted(set(parents))
        ),
    ]


def main() -> None:
    """Record a large grid, and bring its database up to date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", metavar="ROOT")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--missing", type=float, default=0.0)
    chosen = parser.parse_args()
    root = Root.open(chosen.root)
    ledger = Ledger(root)
    started = time.monotonic()
    cells = record_grid(ledger, large_experiment(chosen.samples), chosen.missing)
    recorded = time.monotonic()
    path = Results(root, ledger).refresh()
    sys.stdout.write(
        f"{cells} cells recorded in {recorded - started:.0f} s; {path} built in "
        f"{time.monotonic() - recorded:.0f} s\n"
    )


if __name__ == "__main__":
    main()
