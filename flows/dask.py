"""Prefect's task runner for Dask, as `run --dask` wants it."""

import os
from typing import TYPE_CHECKING, Any

from mergegrid.errors import InputError

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner


def dask_runner(where: str) -> "TaskRunner[Any]":
    """Make a task runner that runs steps in other processes.

    Steps are handed plain text and leave what they make under the root, so that any
    worker will do that has this repository and reaches the root.

    Args:
        where: a scheduler's address such as `tcp://host:8786`, or a number of processes
            for a cluster on this machine, for as long as the run lasts.

    Returns:
        The task runner.

    Raises:
        InputError: if it is neither, or prefect-dask is not installed.
    """
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise InputError(
            "--dask needs the package prefect-dask, which is not installed."
        ) from None
    if "://" in where:
        return DaskTaskRunner(address=where)
    if not where.isdigit() or not int(where):
        raise InputError(
            f"--dask {where!r} is neither a scheduler's address such as "
            "tcp://host:8786 nor a number of processes."
        )
    cluster: dict[str, Any] = {
        # A step at a time in each; its own pages are nobody's business.
        "n_workers": int(where),
        "threads_per_worker": 1,
        "dashboard_address": None,
        "env": {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]},
    }
    return DaskTaskRunner(cluster_kwargs=cluster)
