"""Prefect's task runner for Dask, as `run --dask` wants it."""

import os
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mergegrid.errors import InputError

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

SECONDS_TO_ANSWER = 10.0
"""A scheduler that takes longer to accept a connection is counted as not there."""


def read_dask(where: str) -> int | str:
    """Read what `--dask` says, and refuse what cannot be, before anything is started.

    Args:
        where: a scheduler's address such as `tcp://host:8786`, or a number of processes
            for a cluster on this machine, for as long as the run lasts.

    Returns:
        The number, or the address.

    Raises:
        InputError: if it is neither, if nothing answers at the address, or if
            prefect-dask is not installed.
    """
    if find_spec("prefect_dask") is None:
        raise InputError(
            "--dask needs the package prefect-dask, which is not installed."
        )
    if where.isdecimal() and int(where):
        return int(where)
    try:
        address = urlsplit(where)
        host, port = address.hostname, address.port
    except ValueError:  # the port is no number
        host = port = None
    if not (host and port):
        raise InputError(
            f"--dask {where!r} is neither a scheduler's address such as "
            "tcp://host:8786 nor a number of processes."
        )
    try:
        socket.create_connection((host, port), SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise InputError(f"--dask {where}: no scheduler answers ({error}).") from None
    return where


def dask_runner(where: int | str) -> "TaskRunner[Any]":
    """Make a task runner that runs steps in other processes.

    Steps are handed plain text and leave what they make under the root, so that any
    worker will do that has this repository and reaches the root.

    Args:
        where: what `read_dask` returns.

    Returns:
        The task runner.
    """
    from prefect_dask.task_runners import DaskTaskRunner

    if isinstance(where, str):
        return DaskTaskRunner(address=where)
    cluster: dict[str, Any] = {
        # A step at a time in each; its own pages are nobody's business.
        "n_workers": where,
        "threads_per_worker": 1,
        "dashboard_address": None,
        "env": {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]},
    }
    return DaskTaskRunner(cluster_kwargs=cluster)
