"""What more workers are worth: one grid with 1, 2 and 4 of them, on one machine.

    python -m benchmarks.workers DIRECTORY [--workers 1 2 4]

starts a Prefect server, `python -m flows worker` processes, and a grid of glyphs from
its deployment, as the UI does. In *computes* every step is as always, and as small as
can be. In *waits* each evaluation sleeps for a while beside, which stands for a GPU's
or a network's time: processors are idle meanwhile, as they would be. Models are trained
first, and not counted. Every grid's tables are compared with those of
`python -m flows run`, which has no workers.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from torch import nn

from benchmarks.overhead import SUITE, TRAINING, count
from flows.local import CLIENT_SETTINGS
from flows.pools import HEAVY_POOL
from flows.server import local_server
from flows.share import share
from flows.stage import devices, flow_of
from mergegrid.evaluation import Tally
from mergegrid.experiment import load_experiment
from mergegrid.suites.examples import Examples
from storage.ledger import Ledger
from storage.results import Answer, Results
from storage.root import Root

SMALL = SUITE | {"categories": 6}
"""Fewer tasks than a grid of 12,000 cells has."""

SECONDS_AN_EVALUATION = 0.4
"""What an evaluation sleeps in *waits*."""

SCALES = {"computes": 96, "waits": 8}
"""Cells that differ in their scale alone; there are so many for each other choice."""

DEPLOYMENTS = {"computes": "share/gpu", "waits": "waits/benchmark"}
"""What a grid hands its heavy steps to."""

TABLES = (
    "SELECT * EXCLUDE (record) FROM scores ORDER BY ALL",
    "SELECT * EXCLUDE (record) FROM cells ORDER BY ALL",
    "SELECT * EXCLUDE (record) FROM lineage ORDER BY ALL",
    "SELECT step, stage, flops, paper_flops, examples FROM costs ORDER BY ALL",
)
"""All that a grid finds, without what depends on the clock."""

HOME = Path(__file__).parents[1]
SECONDS_TO_STOP = 15.0


@flow_of("waits", workers=devices())
def waits(experiment: str, root: str, keys: list[str]) -> None:
    """Do a share of a grid whose evaluations wait.

    Args:
        experiment: The experiment, as JSON text.
        root: Where artifacts and results live.
        keys: Of the steps to do.
    """
    import tasks.evaluate

    evaluate = tasks.evaluate.evaluate_tasks

    def evaluate_and_wait(
        model: nn.Module,
        examples: Mapping[Any, Examples],
        *,
        metrics: Mapping[Any, str],
        batch_size: int,
    ) -> dict[Any, Tally]:
        time.sleep(SECONDS_AN_EVALUATION)
        return evaluate(model, examples, metrics=metrics, batch_size=batch_size)

    tasks.evaluate.evaluate_tasks = evaluate_and_wait
    share.fn(experiment, root, keys)


@dataclass(frozen=True)
class Taken:
    """What one grid took."""

    wall: float
    """Seconds from its start to the last of its report."""

    shares: float
    """Seconds from the first share's start to the last one's end."""

    number: int
    """Of shares."""


def main() -> None:
    """Run every grid with every number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--grids", nargs="+", choices=SCALES, default=[*SCALES])
    chosen = parser.parse_args()
    directory: Path = chosen.directory.absolute()
    directory.mkdir(parents=True)
    os.environ.update(CLIENT_SETTINGS | {"OMP_NUM_THREADS": "1"})
    # Workers have sessions of their own: they must not outlive a polite kill either.
    signal.signal(signal.SIGTERM, _leave)
    with local_server(directory / "prefect") as server:
        server.wait()
        os.environ["PREFECT_API_URL"] = server.api
        with (
            temporary_settings({PREFECT_API_URL: server.api}),
            Workers(directory / "workers.log").kept() as workers,
        ):
            measure(directory, chosen.grids, sorted(chosen.workers), workers)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # through the `finally` below


def measure(
    directory: Path, grids: Sequence[str], numbers: Sequence[int], workers: "Workers"
) -> None:
    """Run every grid alone, and then with each number of workers.

    Args:
        directory: where roots go.
        grids: keys of `SCALES`.
        numbers: of workers, the smallest first.
        workers: they are started here.
    """
    files = {kind: write(directory, kind) for kind in grids}
    alone = {kind: run_alone(directory, file) for kind, file in files.items()}
    deploy(max(numbers))
    for number in numbers:
        workers.have(number)
        for kind, file in files.items():
            root = directory / f"{kind}-{number}"
            shutil.copytree(directory / "models", root)
            taken = run_shared(file, root, DEPLOYMENTS[kind])
            report(kind, number, file, taken, equal=found(root) == alone[kind])


def write(directory: Path, kind: str) -> Path:
    """Write a grid's experiment file.

    Args:
        directory: where.
        kind: a key of `SCALES`.

    Returns:
        The file.
    """
    scales = [round(0.01 * (number + 1), 2) for number in range(SCALES[kind])]
    methods = [
        {"name": "task_arithmetic", "options": {"scale": scales}},
        {"name": "dare", "options": {"drop_rate": 0.5, "scale": scales}},
    ]
    grid = {
        "methods": methods,
        "subsets": {"nested": {"sizes": [2, 3], "samples": 12}},
    }
    training = dict.fromkeys(("pretrain", "expert", "multitask"), TRAINING)
    document = {"name": kind, "suite": SMALL, "training": training, "grid": [grid]}
    file = directory / f"{kind}.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def run_alone(directory: Path, file: Path) -> list[Answer]:
    """Run a grid in one process, keeping the models for those that follow.

    Args:
        directory: where roots are.
        file: the grid's experiment file.

    Returns:
        What it finds.
    """
    models, root = directory / "models", directory / f"{file.stem}-alone"
    if not models.exists():
        few = directory / "few.yaml"
        document = yaml.safe_load(file.read_text())
        few.write_text(yaml.safe_dump(document | {"name": "few", "grid": [AVERAGE]}))
        flows("run", few, "--root", models)
    shutil.copytree(models, root)
    flows("run", file, "--root", root)
    return found(root)


AVERAGE = {"methods": ["average"]}


def run_shared(file: Path, root: Path, deployment: str) -> Taken:
    """Run a grid from its deployment, on whatever workers there are.

    Args:
        file: its experiment file.
        root: where its models are.
        deployment: what heavy steps are handed to.

    Returns:
        What it took.
    """
    started = time.monotonic()
    run: Any = run_deployment(
        "experiment/grid",
        parameters={"file": str(file), "root": str(root), "deployment": deployment},
        poll_interval=0.5,
    )
    wall = time.monotonic() - started
    assert run.state.is_completed(), run.state
    of_run = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"of-{run.id}"]))
    with get_client(sync_client=True) as client:
        shares = client.read_flow_runs(flow_run_filter=of_run)
    starts: list[datetime] = [part.start_time for part in shares if part.start_time]
    ends: list[datetime] = [part.end_time for part in shares if part.end_time]
    return Taken(wall, (max(ends) - min(starts)).total_seconds(), len(shares))


def found(root: Path) -> list[Answer]:
    """Read what a grid has found, without what depends on the clock."""
    place = Root.open(str(root))
    results = Results(place, Ledger(place))
    results.refresh()
    return [results.query(query) for query in TABLES]


def report(kind: str, number: int, file: Path, taken: Taken, *, equal: bool) -> None:
    """Print what a grid took."""
    cells = count(load_experiment(file))
    sys.stdout.write(
        f"{kind}, {number} workers: {cells} cells in {taken.wall:.0f} s, "
        f"{cells / taken.wall:.2f} cells/s; {taken.number} shares in "
        f"{taken.shares:.0f} s, {cells / taken.shares:.2f} cells/s; tables "
        f"{'equal' if equal else 'DIFFERENT'}; load {os.getloadavg()[0]:.1f}\n"
    )
    sys.stdout.flush()


def deploy(gpus: int) -> None:
    """Make work pools and deployments, this benchmark's own among them."""
    flows("deploy", "--gpus", str(gpus))
    command = ["prefect", "--no-prompt", "deploy", "benchmarks/workers.py:waits"]
    named = ["--name", "benchmark", "--pool", HEAVY_POOL]
    call([sys.executable, "-m", *command, *named], MERGEGRID_HOME=str(HOME))


def flows(*arguments: object) -> None:
    """Give a command of the command line."""
    call([sys.executable, "-m", "flows", *map(str, arguments)])


def call(command: Sequence[str], **variables: str) -> None:
    """Run a command to its end; what it says is shown if it fails."""
    done = subprocess.run(
        command,
        cwd=HOME,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")


class Workers:
    """A worker of the cheap pool, and a growing number of the other.

    Args:
        log: the file that they write to.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._processes: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def kept(self) -> "Generator[Workers]":
        """Stop all of them when the block ends.

        Yields:
            The workers.
        """
        try:
            yield self
        finally:
            for process in self._processes:
                process.send_signal(signal.SIGINT)
            for process in self._processes:
                try:
                    process.wait(SECONDS_TO_STOP)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def have(self, number: int) -> None:
        """Start as many workers as are missing, and wait until they are online.

        Args:
            number: how many are wanted of the pool for heavy steps.
        """
        pools = ["cpu", *[HEAVY_POOL] * number][len(self._processes) :]
        with self._log.open("ab") as output:
            self._processes += [
                subprocess.Popen(
                    [sys.executable, "-m", "flows", "worker", pool],
                    cwd=HOME,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                for pool in pools
            ]
        with get_client(sync_client=True) as client:
            while len(client.read_workers_for_work_pool(HEAVY_POOL)) < number:
                time.sleep(0.5)


if __name__ == "__main__":
    main()
