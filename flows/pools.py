"""The work pools, their limits and deployments on a Prefect server.

What a pool's workers run things in - a process, a container, a pod - is decided by
`docker/pools/<type>.yaml`, laid over Prefect's own template for that type.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import (
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import (
    get_default_base_job_template_for_infrastructure_type as default_template,
)

from flows.watch import watch_for_the_silent
from mergegrid.documents import read_mapping
from mergegrid.errors import InputError, MergegridError
from tasks.step import HEAVY

HOME = Path(__file__).parent.parent
"""This repository."""

TYPES = HOME / "docker" / "pools"
"""A file for each type of work pool."""

CHEAP_POOL = "cpu"
HEAVY_POOL = "gpu"


class DeployError(MergegridError):
    """Prefect refused the deployments."""


def deploy(*, gpus: int, kind: str) -> list[str]:
    """Make work pools, limits and deployments, or bring them up to date.

    Args:
        gpus: how many heavy steps may run at once, over all machines.
        kind: type of the pool for heavy steps: process, docker, kubernetes.

    Returns:
        What there is now, a line each.

    Raises:
        InputError: if there is no such type.
        DeployError: if Prefect takes the deployments amiss.
    """
    known = sorted(path.stem for path in TYPES.glob("*.yaml"))
    if kind not in known:
        raise InputError(f"--type {kind} is not known; there is {', '.join(known)}.")
    lines = asyncio.run(_pools(gpus, kind))
    environment = {
        # Where the worker finds the code, and what the form proposes as root.
        "MERGEGRID_HOME": str(HOME),
        "MERGEGRID_ROOT": str(HOME / "mergegrid-data"),
    } | os.environ
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=HOME,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DeployError(f"Prefect did not take prefect.yaml: {done.stdout}")
    names = [
        f"{entry['entrypoint'].rpartition(':')[2]}/{entry['name']}"
        for entry in read_mapping(HOME / "prefect.yaml")["deployments"]
    ]
    asyncio.run(_refuse_unknown(names))
    return [*lines, f"deployments {', '.join(names)}"]


async def _pools(gpus: int, kind: str) -> list[str]:
    kinds = {CHEAP_POOL: "process", HEAVY_POOL: kind}
    limits = {CHEAP_POOL: None, HEAVY_POOL: gpus}
    lines: list[str] = []
    async with get_client() as client:
        for name, of in kinds.items():
            template = laid_over(
                await default_template(of) or {}, read_mapping(TYPES / f"{of}.yaml")
            )
            try:
                there = await client.read_work_pool(name)
            except ObjectNotFound:
                await client.create_work_pool(
                    WorkPoolCreate(
                        name=name,
                        type=of,
                        base_job_template=template,
                        concurrency_limit=limits[name],
                    )
                )
            else:
                if there.type != of:
                    raise InputError(
                        f"Work pool {name} is of type {there.type}, not {of}; "
                        f"`prefect work-pool delete {name}` makes room for another."
                    )
                await client.update_work_pool(
                    name,
                    WorkPoolUpdate(
                        base_job_template=template, concurrency_limit=limits[name]
                    ),
                )
            at_once = f", {limits[name]} at once" if limits[name] else ""
            lines.append(f"work pool {name} ({of}{at_once})")
        await client.create_concurrency_limit(tag=HEAVY, concurrency_limit=gpus)
    lines.append(f"limit of {gpus} on steps tagged {HEAVY}")
    return lines + await watch_for_the_silent()


async def _refuse_unknown(names: Sequence[str]) -> None:
    """Have the server refuse parameters that a flow does not have, as the form does.

    Prefect's own schemas allow any, which would end a run without a word about them.
    """
    async with get_client() as client:
        for name in names:
            there = await client.read_deployment_by_name(name)
            schema = dict(there.parameter_openapi_schema or {})
            schema["additionalProperties"] = False
            await client.update_deployment(
                there.id, DeploymentUpdate(parameter_openapi_schema=schema)
            )


def laid_over(
    template: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Lay a file of `docker/pools/` over Prefect's template for a type of pool.

    Args:
        template: Prefect's base job template.
        settings: `variables` - defaults of job variables by name - and, for pods,
            `container` and `pod`: what is added to the job's manifest.

    Returns:
        The pool's base job template.

    Raises:
        InputError: if the file names a variable that the type does not have.
    """
    result = deepcopy(dict(template))
    known = result["variables"]["properties"]
    for name, value in (settings.get("variables") or {}).items():
        if name not in known:
            raise InputError(
                f"docker/pools: there is no job variable {name!r}; there is "
                f"{', '.join(sorted(known))}."
            )
        known[name]["default"] = value
    if "container" in settings or "pod" in settings:
        pod = result["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        pod.update(settings.get("pod") or {})
        pod["containers"][0].update(settings.get("container") or {})
    return result
