"""A Prefect server and its workers as a team runs them, each by one command.

Each is Prefect's own program with the settings that were measured to work; the process
becomes that program, so that signals and exit statuses are Prefect's.
"""

import os
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from typing import NoReturn

from flows.local import CLIENT_SETTINGS, configured_address
from flows.server import SETTINGS, ServerError

PORT = 4200
"""Where Prefect's server is by default."""

SECONDS_A_DAY = 86_400

SECONDS_TO_ANSWER = 10.0
"""A server that takes longer is counted as not there."""

WORKER_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # The server counts a run that is silent for three of these as crashed.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": CLIENT_SETTINGS["PREFECT_LOGGING_EXTRA_LOGGERS"],
}
"""How workers behave, unless the environment says otherwise."""


def use_server() -> str:
    """Choose the Prefect server to talk to, for whatever imports Prefect next.

    Returns:
        The address of its API: the one that is configured, or the default one here.

    Raises:
        ServerError: if it does not answer.
    """
    address = configured_address() or f"http://127.0.0.1:{PORT}/api"
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=SECONDS_TO_ANSWER):
            pass
    except (OSError, ValueError) as error:
        raise ServerError(
            f"No Prefect server answers at {address} ({error}); start one with "
            "`python -m flows server`, or set PREFECT_API_URL."
        ) from None
    os.environ["PREFECT_API_URL"] = address
    return address


def become_server(*, host: str, port: int, keep_days: int) -> NoReturn:
    """Turn this process into a Prefect server.

    Args:
        host: the address that it listens on.
        port: its port.
        keep_days: how long runs, logs and events are kept.
    """
    settings = SETTINGS | {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(
            keep_days * SECONDS_A_DAY
        ),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{keep_days}D",
    }
    address = {
        # The page asks this port for its data; --port alone leaves it at 4200.
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
    }
    without = {
        name: os.environ[name] for name in os.environ if name != "PREFECT_API_URL"
    }
    _become(["server", "start"], settings | without | address)


def become_worker(*, pool: str, name: str | None, limit: int | None) -> NoReturn:
    """Turn this process into a worker of a pool.

    Args:
        pool: the work pool.
        name: what the worker is called in the UI.
        limit: how many flows it runs at once; None for any number.
    """
    use_server()
    named = ["--name", name] if name else []
    limited = ["--limit", str(limit)] if limit else []
    # At the port that Prefect's own setting names: two on one machine need two.
    watched = "PREFECT_WORKER_WEBSERVER_PORT" in os.environ
    health = ["--with-healthcheck"] if watched else []
    start = ["worker", "start", "--pool", pool, *named, *limited, *health]
    _become(start, WORKER_SETTINGS | dict(os.environ))


def _become(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    os.execve(
        sys.executable,
        [sys.executable, "-m", "prefect", *arguments],
        dict(environment),
    )
