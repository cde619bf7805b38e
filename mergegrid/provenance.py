"""Provenance: which code, packages and hardware made a result.

What a reader asks a year later, and nothing about who ran it or where: no names of
users or machines and no paths.
"""

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "mergegrid",
    "accelerate",
    "datasets",
    "duckdb",
    "matplotlib",
    "numpy",
    "open_clip_torch",
    "peft",
    "pillow",
    "prefect",
    "safetensors",
    "scikit-learn",
    "sentencepiece",
    "tokenizers",
    "torch",
    "torchmetrics",
    "torchvision",
    "transformers",
)
"""The packages whose version can change a number."""

COMMIT = "MERGEGRID_COMMIT"
"""Variable of the environment that says which commit the code is of, where there is no
repository: in an image. A `+` at its end means that there were changes."""

SECONDS_FOR_GIT = 10.0


def provenance() -> dict[str, Any]:
    """Describe what is running; the slow parts are looked up once in a process.

    Returns:
        `git_commit` and `git_dirty` of the repository that holds this code, or else as
        `MERGEGRID_COMMIT` says (None without either), `versions` of the packages that
        matter, `python`, `platform`, `cpu`, `threads` (sums depend on it in their last
        digits) and `device`: the accelerator's name, or else the processor's.
    """
    commit, dirty = _git_state(Path(__file__))
    if commit is None and (said := os.environ.get(COMMIT)):
        commit, dirty = said.removesuffix("+"), said.endswith("+")
    cpu = _cpu_name()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": dict(_versions()),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
    }


@functools.cache
def _git_state(file: Path) -> tuple[str | None, bool | None]:
    # A file that is there but not tracked belongs to some other project's repository,
    # inside which this package was installed.
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None, None
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=directory,
            # Do not take the lock that the user's own git commands need.
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=SECONDS_FOR_GIT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def _versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()
