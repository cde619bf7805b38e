"""What a sweep costs beside one merge, and what one layer costs.

    python -m benchmarks.sweeps [--rounds N] grid MODELS
    python -m benchmarks.sweeps [--rounds N] mats [--device cuda] [--layer IN OUT]
    python -m benchmarks.sweeps [--rounds N] regmean [--device cuda] [--layer IN OUT]
    python -m benchmarks.sweeps [--rounds N] layer [--device cuda] [--layer IN OUT]

`grid` sweeps TIES and task arithmetic over whole models that `benchmarks.models` wrote;
the others are about one linear layer of five experts, by default of the size that the
Realistic Evaluation paper timed (Tam et al., arXiv:2409.18314, Table 4).
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

import mergegrid
from benchmarks.in_memory import read
from benchmarks.layout import PRETRAINED, expert_names
from benchmarks.measure import Usage, machine, measure_call, wait_for_peace
from benchmarks.models import CHANGE_SPREAD, WEIGHT_SPREAD
from mergegrid.measured import Statistics
from mergegrid.methods.needs import Need

SCALES = tuple(tenth / 10 for tenth in range(1, 11))
DENSITIES = (0.1, 0.2, 0.3)
ITERATIONS = tuple(range(10, 101, 10))
OFF_DIAGONALS = tuple(tenth / 10 for tenth in range(11))

LAYER_EXPERTS = 5

TOKENS = 1024
"""How many inputs an expert saw; fewer than some layers have inputs."""

PAPER_MS = {
    "average": 1.2,
    "task_arithmetic": 1.9,
    "ties": 2.1,
    "dare": 2.6,
    "fisher": 0.8,
    "regmean": 49.9,
    "mats": 4280.5,
}
"""The paper's milliseconds for one layer on an A6000, MaTS with 50 iterations."""

PAPER_ITERATIONS = 50

Recipes: TypeAlias = Sequence[Mapping[str, Any]]


class Layer:
    """One linear layer of several experts, and what was measured on it.

    Args:
        d_in: number of inputs.
        d_out: number of outputs.
        device: where it is.
    """

    def __init__(self, d_in: int, d_out: int, device: str) -> None:
        self.device = torch.device(device)
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        weight = draw(d_out, d_in) * WEIGHT_SPREAD
        # Inputs of very different size, as real ones have, so that conjugate gradients
        # have work to do for a hundred steps and more.
        order = torch.randperm(d_in, generator=generator)
        spread = torch.logspace(0, -2, d_in)[order]
        self.pretrained = self._place(weight)
        self.experts: dict[str, dict[str, Tensor]] = {}
        grams: dict[str, dict[str, Tensor]] = {}
        fishers: dict[str, dict[str, Tensor]] = {}
        for index in range(LAYER_EXPERTS):
            name = str(index)
            self.experts[name] = self._place(weight + draw(d_out, d_in) * CHANGE_SPREAD)
            inputs = draw(TOKENS, d_in) * spread
            gram = inputs.T @ inputs / TOKENS
            gram.diagonal().add_(spread.square(), alpha=0.1)
            grams[name] = self._place(gram)
            fishers[name] = self._place(draw(d_out, d_in).square())
        self.statistics: Statistics = {Need.GRAM: grams, Need.FISHER: fishers}

    def _place(self, tensor: Tensor) -> dict[str, Tensor]:
        return {"layer.weight": tensor.to(self.device)}

    def run(self, recipes: Recipes) -> None:
        """Merge it in several ways, one after the other.

        Args:
            recipes: how.
        """
        consume(self.experts, recipes, self.pretrained, self.statistics)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def consume(
    experts: Mapping[str, Mapping[str, Tensor]],
    recipes: Recipes,
    pretrained: Mapping[str, Tensor],
    statistics: Statistics | None = None,
) -> None:
    """Make every merged model of a sweep, and drop it.

    Args:
        experts: see `mergegrid.sweep`.
        recipes: see `mergegrid.sweep`.
        pretrained: see `mergegrid.sweep`.
        statistics: see `mergegrid.sweep`.
    """
    for _ in mergegrid.sweep(experts, recipes, pretrained, statistics):
        pass


@dataclass(frozen=True)
class Stopwatch:
    """How carefully things are measured."""

    rounds: int
    """How often; the fastest round counts."""

    patience_seconds: float
    """How long to wait before each round while others keep the machine busy."""

    def time(self, call: Callable[[], None]) -> Usage:
        """Measure a call.

        Args:
            call: what is called.

        Returns:
            The cost of the fastest round.
        """
        costs: list[Usage] = []
        for _ in range(self.rounds):
            wait_for_peace(self.patience_seconds)
            costs.append(measure_call(call)[1])
        return min(costs, key=lambda cost: cost.wall_seconds)


def grid(models: Path, watch: Stopwatch) -> list[str]:
    """Compare a grid of TIES and task arithmetic with its merges, one by one.

    Args:
        models: the folder of the models.
        watch: measures.

    Returns:
        Lines of Markdown.
    """
    experts = {name: read(models / name) for name in expert_names(models)}
    pretrained = read(models / PRETRAINED)
    single = {
        f"TIES, density {density}": [recipe("ties", density=density)]
        for density in DENSITIES
    }
    single["task arithmetic"] = [recipe("task_arithmetic", scale=SCALES[0])]
    together = [
        recipe("ties", density=density, scale=scale)
        for density in DENSITIES
        for scale in SCALES
    ] + [recipe("task_arithmetic", scale=scale) for scale in SCALES]
    # The first merges of a process pay for its memory, and would flatter the sweep.
    consume(experts, [recipe("ties")], pretrained)
    costs = {
        name: watch.time(functools.partial(consume, experts, recipes, pretrained))
        for name, recipes in {**single, f"all {len(together)}": together}.items()
    }
    return against_most_expensive(costs)


def layer_sweep(layer: Layer, method: str, option: str, watch: Stopwatch) -> list[str]:
    """Compare a sweep of one option over one layer with its most expensive merge.

    Args:
        layer: the layer.
        method: the method.
        option: its option.
        watch: measures.

    Returns:
        Lines of Markdown.
    """
    values = ITERATIONS if method == "mats" else OFF_DIAGONALS
    single = ITERATIONS[-1:] if method == "mats" else (0.0, 0.9, 1.0)
    wanted = {
        f"{option} {value}": [recipe(method, **{option: value})] for value in single
    }
    wanted[f"all {len(values)}"] = [
        recipe(method, **{option: value}) for value in values
    ]
    layer.run([recipe("average")])
    costs = {
        name: watch.time(functools.partial(layer.run, recipes))
        for name, recipes in wanted.items()
    }
    return against_most_expensive(costs)


def layer_timings(layer: Layer, watch: Stopwatch) -> list[str]:
    """Time every method of the paper's Table 4 on one layer.

    Args:
        layer: the layer.
        watch: measures.

    Returns:
        Lines of Markdown.
    """
    lines = ["| method | ms | paper's ms |", "|---|---|---|"]
    for method, paper in PAPER_MS.items():
        options = {"iterations": PAPER_ITERATIONS} if method == "mats" else {}
        recipes = [recipe(method, **options)]
        layer.run(recipes)  # the first call on a device is of another kind
        cost = watch.time(functools.partial(layer.run, recipes))
        lines.append(f"| {method} | {cost.wall_seconds * 1e3:,.1f} | {paper:,} |")
    return lines


def recipe(method: str, **options: float) -> dict[str, Any]:
    """Write a recipe.

    Args:
        method: the method.
        **options: its options.

    Returns:
        The recipe.
    """
    return {"method": method, "options": options}


def against_most_expensive(costs: Mapping[str, Usage]) -> list[str]:
    """Draw the table of a sweep, the last, beside single merges.

    Args:
        costs: name to cost.

    Returns:
        Lines of Markdown.
    """
    *single, _ = costs.values()
    cpu = max(cost.cpu_seconds for cost in single)
    wall = max(cost.wall_seconds for cost in single)
    return [
        "| merges | CPU s | wall s | CPU ratio | wall ratio | others |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {cost.cpu_seconds:.3f} | {cost.wall_seconds:.3f} "
            f"| {cost.cpu_seconds / cpu:.2f} "
            f"| {cost.wall_seconds / wall:.2f} "
            f"| {cost.others_seconds / cost.wall_seconds:.0%} |"
            for name, cost in costs.items()
        ),
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Time sweeps.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patience", type=float, default=60.0, metavar="SECONDS")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("grid", help="TIES and task arithmetic, whole models")
    command.add_argument("models", type=Path, metavar="MODELS")
    for name in ("mats", "regmean", "layer"):
        command = commands.add_parser(name)
        command.add_argument("--device", default="cpu")
        command.add_argument("--layer", type=int, nargs=2, default=(5120, 2048))
    chosen = parser.parse_args()
    watch = Stopwatch(chosen.rounds, chosen.patience)
    _say([f"torch {torch.__version__}; {machine()} before"])
    if chosen.command == "grid":
        lines = grid(chosen.models, watch)
    else:
        start = time.perf_counter()
        d_in, d_out = chosen.layer
        layer = Layer(d_in, d_out, chosen.device)
        _say([f"{_device(chosen.device)}, made in {time.perf_counter() - start:.0f} s"])
        match chosen.command:
            case "mats":
                lines = layer_sweep(layer, "mats", "iterations", watch)
            case "regmean":
                lines = layer_sweep(layer, "regmean", "off_diagonal", watch)
            case _:
                lines = layer_timings(layer, watch)
    _say(["", *lines, "", f"{machine()} after"])


def _device(device: str) -> str:
    return torch.cuda.get_device_name(device) if "cuda" in device else device


def _say(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
