"""Compare mergegrid with mergekit and FusionBench: the same merges, side by side.

    python -m benchmarks.merges MODELS --rivals PYTHON

MODELS is what `benchmarks.models` wrote, PYTHON the interpreter of an environment with
the rivals (README.md). Every merge is a process of its own, and the tools take turns;
of several rounds the cheapest counts. Prints tables in Markdown.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.cases import CASES, MERGEGRID, RIVALS, Case
from benchmarks.layout import PRETRAINED, expert_names
from benchmarks.measure import (
    CommandError,
    Usage,
    machine,
    measure_command,
    wait_for_peace,
)

QUIET_RIVALS = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}

QUIET_MERGEKIT = ("--no-copy-tokenizer", "--no-write-model-card")
"""The models have no tokenizer, and a card is no part of a merge."""

STARTS = {
    "import torch": (MERGEGRID, "import torch"),
    "import mergegrid": (MERGEGRID, "import mergegrid"),
    "import mergekit": (
        "mergekit",
        "from mergekit.merge_methods.api import merge_state_dicts",
    ),
    "import fusion_bench": (
        "fusion_bench",
        "from fusion_bench.method import TiesMergingAlgorithm",
    ),
    "mergegrid --help": (MERGEGRID, ("mergegrid", "--help")),
    "mergekit-yaml --help": ("mergekit", ("mergekit-yaml", "--help")),
}
"""What is started, by whom: statements, or a command and its arguments."""

Outcome: TypeAlias = Usage | str
"""What a merge cost, or why it failed."""


@dataclass
class Comparison:
    """One merge by both tools."""

    case: Case
    """What was merged."""

    interface: str
    """"command" or "memory"."""

    ours: Outcome
    """What it cost mergegrid."""

    theirs: Outcome
    """What it cost the rival."""

    agreement: dict[str, float] = field(default_factory=dict)
    """How far apart the results are, see `benchmarks.agreement`."""


class Bench:
    """A place to merge in, and the interpreters to merge with.

    Args:
        models: the folder of the models.
        scratch: a folder for what is written.
        pythons: the interpreter of each tool.
        rounds: how often everything is measured.
        patience_seconds: how long to wait before each measurement for other programs.
        threads: how many threads each tool may use; None for its own choice.
    """

    def __init__(
        self,
        models: Path,
        scratch: Path,
        pythons: dict[str, Path],
        *,
        rounds: int,
        patience_seconds: float,
        threads: int | None,
    ) -> None:
        self.models = models.resolve()
        self.scratch = scratch
        self.pythons = pythons
        self.rounds = rounds
        self.patience_seconds = patience_seconds
        self.environment = QUIET_RIVALS | (
            {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
            if threads
            else {}
        )

    def compare(self, case: Case, interface: str, tools: Sequence[str]) -> Comparison:
        """Merge with both tools.

        Args:
            case: what to merge.
            interface: "command" or "memory".
            tools: those that take part.

        Returns:
            Costs, and agreement if both have merged.
        """
        wanted = (MERGEGRID, case.rival)
        outcomes: dict[str, Outcome] = dict.fromkeys(wanted, "not asked for")
        measure = self._command if interface == "command" else self._memory
        for _ in range(self.rounds):
            for tool in wanted:
                if tool in tools:
                    outcomes[tool] = cheapest(outcomes[tool], measure(case, tool))
        found = Comparison(case, interface, outcomes[MERGEGRID], outcomes[case.rival])
        if isinstance(found.ours, Usage) and isinstance(found.theirs, Usage):
            found.agreement = self._agreement(case)
        return found

    def start(self, name: str) -> Outcome:
        """Measure an import, or a command that does nothing.

        Args:
            name: one of `STARTS`.

        Returns:
            What it cost.
        """
        tool, started = STARTS[name]
        python = self.pythons[tool]
        command = (
            [python, "-c", started]
            if isinstance(started, str)
            else [python.with_name(started[0]), *started[1:]]
        )
        outcome: Outcome = ""
        for _ in range(self.rounds + 1):  # the first one fills the cache of files
            outcome = cheapest(outcome, self._measured(command))
        return outcome

    def version(self, tool: str, distribution: str) -> str:
        """Look up what is installed for a tool.

        Args:
            tool: the tool.
            distribution: any distribution in its environment.

        Returns:
            The version, or "none".
        """
        code = (
            f"from importlib.metadata import version as v; print(v('{distribution}'))"
        )
        found = subprocess.run(
            [self.pythons[tool], "-c", code],
            capture_output=True,
            text=True,
            check=False,
        )
        return found.stdout.strip() or "none"

    def _out(self, tool: str) -> Path:
        return self.scratch / f"merged-{tool}"

    def _measured(self, command: Sequence[str | Path]) -> Outcome:
        wait_for_peace(self.patience_seconds)
        try:
            return measure_command(command, self.scratch / "log", self.environment)
        except (CommandError, OSError) as error:
            return str(error)

    def _command(self, case: Case, tool: str) -> Outcome:
        recipe = self.scratch / f"{tool}.yaml"
        # JSON is YAML.
        recipe.write_text(json.dumps(self._recipe(case, tool)), encoding="utf-8")
        out = self._out(tool)
        subprocess.run(["rm", "-rf", out], check=True)
        python = self.pythons[tool]
        if tool == MERGEGRID:
            return self._measured([python.with_name("mergegrid"), "merge", recipe, out])
        program = python.with_name("mergekit-yaml")
        return self._measured([program, recipe, out, *QUIET_MERGEKIT])

    def _recipe(self, case: Case, tool: str) -> dict[str, Any]:
        paths = {name: str(self.models / name) for name in expert_names(self.models)}
        base = str(self.models / PRETRAINED) if case.needs_pretrained else None
        if tool == MERGEGRID:
            recipe = {
                "method": case.method,
                "options": case.options,
                "experts": paths,
                "pretrained": base,
            }
        else:
            recipe = {
                "merge_method": case.rival_method,
                "models": [{"model": path} for path in paths.values()],
                "parameters": case.rival_options,
                "base_model": base,
                "dtype": "float32",
            }
        return {key: value for key, value in recipe.items() if value is not None}

    def _memory(self, case: Case, tool: str) -> Outcome:
        out = self._out(tool)
        subprocess.run(["rm", "-rf", out], check=True)
        child = [self.pythons[tool], "-m", "benchmarks.in_memory"]
        outcome = self._measured([*child, tool, case.name, self.models, out])
        if isinstance(outcome, str):
            return outcome
        printed = (self.scratch / "log").read_text().strip().splitlines()[-1]
        return Usage(**json.loads(printed))

    def _agreement(self, case: Case) -> dict[str, float]:
        pair = [self._out(MERGEGRID), self._out(case.rival)]
        command = [self.pythons[MERGEGRID], "-m", "benchmarks.agreement", *pair]
        found = subprocess.run(
            [*command, self.models / PRETRAINED], capture_output=True, check=True
        )
        return json.loads(found.stdout)


def cheapest(one: Outcome, other: Outcome) -> Outcome:
    """Choose between two measurements of the same thing.

    Args:
        one: a measurement, or a failure.
        other: another.

    Returns:
        The one with less processor time; a measurement rather than a failure, the later
        failure rather than the former.
    """
    if isinstance(one, str):
        return other
    if isinstance(other, str) or one.cpu_seconds <= other.cpu_seconds:
        return one
    return other


def comparison_rows(comparisons: Iterable[Comparison]) -> list[str]:
    """Draw the table of merges.

    Args:
        comparisons: the merges.

    Returns:
        Lines of Markdown.
    """
    rows = [
        "| method | interface | rival | CPU s | wall s | MB | rival's CPU s | wall s "
        "| MB | CPU ratio | wall ratio | others | largest difference | entries apart |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for found in comparisons:
        case = found.case
        cells = [case.method, found.interface, f"{case.rival} {case.rival_method}"]
        cells += [*_costs(found.ours), *_costs(found.theirs)]
        if isinstance(found.ours, Usage) and isinstance(found.theirs, Usage):
            cpu = found.theirs.cpu_seconds / found.ours.cpu_seconds
            wall = found.theirs.wall_seconds / found.ours.wall_seconds
            cells += [f"{cpu:.1f}", f"{wall:.1f}"]
        else:
            cells += ["-", "-"]
        cells += [_others(found), *_agreement_cells(found)]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _others(found: Comparison) -> str:
    costs = [cost for cost in (found.ours, found.theirs) if isinstance(cost, Usage)]
    shares = [cost.others_seconds / cost.wall_seconds for cost in costs]
    return f"{max(shares, default=0):.0%}"


def _costs(outcome: Outcome) -> list[str]:
    if isinstance(outcome, str):
        return [outcome.replace("|", "/"), "-", "-"]
    return [
        f"{outcome.cpu_seconds:.2f}",
        f"{outcome.wall_seconds:.2f}",
        f"{outcome.peak_bytes / 1e6:,.0f}",
    ]


def _agreement_cells(found: Comparison) -> list[str]:
    agreement = found.agreement
    if not agreement:
        return ["-", "-"]
    if found.case.draws:
        return ["random", f"norms {agreement['norms']:.4f} : 1"]
    return [
        f"{agreement['largest']:.1e}",
        f"{agreement['apart']:,} of {agreement['entries']:,}",
    ]


def main() -> None:
    """Run the command line."""
    chosen = _parser().parse_args()
    ours = Path(sys.executable)
    pythons = {MERGEGRID: ours, **dict.fromkeys(RIVALS, chosen.rivals or ours)}
    comparisons: list[Comparison] = []
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        bench = Bench(
            chosen.models,
            Path(scratch),
            pythons,
            rounds=chosen.rounds,
            patience_seconds=chosen.patience,
            threads=chosen.threads,
        )
        versions = [f"mergegrid {bench.version(MERGEGRID, MERGEGRID)}"]
        versions += [
            f"{distribution} {bench.version(tool, distribution)}"
            for tool, distribution in RIVALS.items()
        ]
        versions += [
            f"torch {bench.version(tool, 'torch')} ({tool})" for tool in pythons
        ]
        _say([f"{', '.join(versions)}; {machine()} before", ""])
        for case in CASES:
            if chosen.only and not any(word in case.name for word in chosen.only):
                continue
            for interface in ["memory", *(["command"] if case.has_command else [])]:
                found = bench.compare(case, interface, chosen.tools)
                comparisons.append(found)
                sys.stderr.write(f"{comparison_rows([found])[-1]}\n")
        starts = {
            name: bench.start(name)
            for name, (tool, _) in STARTS.items()
            if tool in chosen.tools
        }
    _say(["", *comparison_rows(comparisons), "", "| start | CPU s | wall s | MB |"])
    _say(["|---|---|---|---|"])
    _say([f"| {' | '.join([name, *_costs(cost)])} |" for name, cost in starts.items()])
    _say(["", f"{machine()} after"])
    if chosen.json:
        record = {
            "versions": versions,
            "merges": [dataclasses.asdict(found) for found in comparisons],
            "starts": {
                name: cost if isinstance(cost, str) else dataclasses.asdict(cost)
                for name, cost in starts.items()
            },
        }
        chosen.json.write_text(json.dumps(record, indent=2), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    tools = (MERGEGRID, *RIVALS)
    parser = argparse.ArgumentParser(description="Compare tools that merge models.")
    parser.add_argument("models", type=Path, metavar="MODELS")
    parser.add_argument("--rivals", type=Path, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        help="seconds to wait before each measurement while others keep the machine "
        "busy",
    )
    parser.add_argument("--threads", type=int, help="for each tool; else its choice")
    parser.add_argument("--tools", nargs="+", choices=tools, default=tools)
    parser.add_argument("--only", nargs="+", help="cases whose name has such a word")
    parser.add_argument("--scratch", type=Path, help="where merged models are written")
    parser.add_argument("--json", type=Path, help="file for the raw numbers")
    return parser


def _say(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
