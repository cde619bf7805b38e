"""What a grid costs beside its work: planning, orchestration, storing, recording.

    python -m benchmarks.overhead DIRECTORY [--cells 12000]

runs a grid of glyphs whose merges and evaluations take no time: both are replaced by
functions that give back what they were given and the same scores. Everything else is
as `python -m flows run` has it. With PREFECT_API_URL it uses that server, else one of
its own for as long as it runs. Models are trained first, and not counted.
"""

import argparse
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from rich.console import Console
from torch import nn

from flows.local import CLIENT_SETTINGS, configured_address, run_locally
from flows.server import local_server
from mergegrid.engine import Merged
from mergegrid.evaluation import Tally
from mergegrid.experiment import Experiment, load_experiment
from mergegrid.experiment_steps import build_steps
from mergegrid.suites.examples import Examples

SCALES = 75
SAMPLES = 20

TRAINING = {"steps": 2, "batch_size": 4, "learning_rate": 0.001}
SUITE = {
    "name": "glyphs", "categories": 12, "classes_per_category": 2, "train": 4,
    "validation": 2, "test": 2, "generalization": 1, "pretraining": 2, "layers": 1,
    "width": 32,
}  # fmt: skip


def experiment(cells: int) -> dict[str, Any]:
    """Describe a grid of about so many cells: scales over nested subsets."""
    sizes = list(range(2, 2 + max(1, min(9, cells // (SCALES * SAMPLES)))))
    scales = [round(0.01 * (number + 1), 2) for number in range(SCALES)]
    block = {
        "methods": [{"name": "task_arithmetic", "options": {"scale": scales}}],
        "subsets": {"nested": {"sizes": sizes, "samples": SAMPLES}},
    }
    training = dict.fromkeys(("pretrain", "expert", "multitask"), TRAINING)
    return {"name": "overhead", "suite": SUITE, "training": training, "grid": [block]}


def without_work() -> None:
    """Replace merging and evaluating by functions that take no time."""
    import tasks.evaluate
    import tasks.merge

    def evaluate(
        _model: nn.Module, examples: Mapping[Any, Examples], **_options: object
    ) -> dict[Any, Tally]:
        return {name: Tally(len(few) // 2, len(few)) for name, few in examples.items()}

    def sweep(*given: object, **named: object) -> Iterator[Merged]:
        _, recipes, pretrained, *_ = cast("tuple[Any, ...]", given)
        subsets = cast("list[tuple[str, ...]]", named["subsets"])
        for recipe, subset in zip(recipes, subsets, strict=True):
            yield Merged(recipe, None, subset, pretrained, 0.0)

    tasks.evaluate.evaluate_tasks = evaluate
    tasks.merge.sweep = sweep


class Memory:
    """Resident memory of this process, looked at now and then."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        page = resource.getpagesize()
        while True:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self.samples.append(resident / 1e6)
            time.sleep(1)


def main() -> None:
    """Start a server, unless there is one, and run the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cells", type=int, default=12_000)
    chosen = parser.parse_args()
    chosen.directory.mkdir(parents=True, exist_ok=True)
    os.environ.update(CLIENT_SETTINGS)
    if configured_address() is not None:
        measure(chosen.directory, chosen.cells)
        return
    with local_server(chosen.directory / "prefect") as server:
        server.wait()
        # Before anything imports Prefect, which keeps to the server that it meets.
        os.environ["PREFECT_API_URL"] = server.api
        measure(chosen.directory, chosen.cells)


def measure(directory: Path, cells: int) -> None:
    """Run the grid and print what it took."""
    root = str(directory / "root")
    wanted = experiment(cells)
    few = directory / "few.yaml"
    few.write_text(yaml.safe_dump(wanted | {"grid": [{"methods": ["average"]}]}))
    prepare = [sys.executable, "-m", "flows", "run", str(few), "--root", root]
    subprocess.run(prepare, check=True)
    file = directory / "overhead.yaml"
    file.write_text(yaml.safe_dump(wanted))
    cells = count(load_experiment(file))
    without_work()
    memory = Memory()
    cpu, wall = time.process_time(), time.monotonic()
    run_locally(file, root, Console(width=120))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    half, most = memory.samples[len(memory.samples) // 2], max(memory.samples)
    sys.stdout.write(
        f"{cells} cells: {wall:.1f} s, {1000 * wall / cells:.2f} ms a cell "
        f"({1000 * cpu / cells:.2f} ms of this process's CPU); resident memory "
        f"{half:.0f} MB half way, {most:.0f} MB at the most, "
        f"{memory.samples[-1]:.0f} MB at the end; load {os.getloadavg()[0]:.1f}\n"
    )
    sys.stdout.flush()


def count(loaded: Experiment) -> int:
    """Count an experiment's cells."""
    scored = build_steps(loaded).scored.values()
    return sum(not entry.is_reference for entry in scored)


if __name__ == "__main__":
    main()
    os._exit(0)  # as `python -m flows` does
