"""An experiment run in this process, with a server and a display of its own.

Prefect reads its settings when it is imported, so everything that imports it is
imported here only after the server's address is known.
"""

import importlib
import logging
import os
import signal
import tomllib
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from flows.dask import dask_runner, read_dask
from flows.display import Display
from flows.plan import Plan, make_plan
from flows.server import local_server
from flows.show import plan_line
from mergegrid.errors import MergegridError
from mergegrid.experiment import load_experiment
from storage.root import Root
from tasks.progress import stop
from tasks.workspace import open_workspace

SECONDS_TO_DRAIN = 10.0
"""Given to Prefect at the end of a run to send its last logs and events."""

CLIENT_SETTINGS = {
    "DO_NOT_TRACK": "1",
    # The library's log belongs to the run that it is made in.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "mergegrid",
    # Logs of every level are in the Prefect UI; beside a progress bar only warnings.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
}
"""How Prefect behaves in a run's process, unless the environment says otherwise."""


def run_locally(
    file: Path, root: str, console: Console, *, dask: str | None = None
) -> Plan:
    """Run an experiment to its end, showing its progress.

    Args:
        file: the experiment's file.
        root: a directory or `s3://bucket/prefix`.
        console: where progress and log lines are shown.
        dask: a Dask scheduler's address, or a number of processes for a cluster here;
            None for threads of this process.

    Returns:
        What there was to do.
    """
    experiment = load_experiment(file)
    cluster = None if dask is None else read_dask(dask)
    # By its full name, as the flows will ask for it again.
    workspace = open_workspace(experiment.model_dump_json(), Root(root).url)
    plan = make_plan(workspace)
    console.print(plan_line(plan))
    with _stopped_by_signals(), _server(workspace.root.cache / "prefect", console):
        from flows.experiment import experiment as experiment_flow

        if cluster is not None:
            experiment_flow = experiment_flow.with_options(
                task_runner=dask_runner(cluster)
            )
        _share(console)
        with Display(plan, console).showing():
            experiment_flow(file=str(file.absolute()), root=workspace.root.url)
    return plan


@contextmanager
def _server(home: Path, console: Console) -> Generator[None]:
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    address = configured_address()
    with nullcontext() if address else local_server(home) as server:
        if server is not None:
            os.environ["PREFECT_API_URL"] = address = server.api
        console.print(f"Prefect server: {str(address).removesuffix('/api')}")
        importlib.import_module("flows.experiment")  # takes as long as a server's start
        if server is not None:
            server.wait()
        try:
            yield
        finally:
            _drain()


def _drain() -> None:
    """Send what Prefect still holds back, before the server goes."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=SECONDS_TO_DRAIN)


def configured_address() -> str | None:
    """Find the Prefect server that the user has chosen, without importing Prefect.

    Returns:
        The address in `PREFECT_API_URL` or in the active profile; None without any.
    """
    if address := os.environ.get("PREFECT_API_URL"):
        return address
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    file = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    if not file.is_file():
        return None
    profiles = tomllib.loads(file.read_text(encoding="utf-8"))
    active = os.environ.get("PREFECT_PROFILE", profiles.get("active"))
    return profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")


@contextmanager
def _stopped_by_signals() -> Generator[None]:
    """Let an interrupt or a polite kill end the run between two pieces of work."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        stop()
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _WithoutTraceback(logging.Filter):
    """Takes the traceback from what a user can mend; bugs keep theirs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], MergegridError):
            record.exc_info = None
            record.exc_text = None
        return True


def _share(console: Console) -> None:
    """Send Prefect's log lines through the console that draws the progress bars."""
    loggers: list[Any] = [logging.getLogger()]
    loggers += [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for logger in loggers:
        for handler in logger.handlers:
            handler.addFilter(_WithoutTraceback())
            if hasattr(handler, "console"):
                handler.console = console
