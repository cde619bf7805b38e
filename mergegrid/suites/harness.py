"""The tasks of lm-evaluation-harness, found by name; none of their data is read."""

import difflib
import functools
import importlib.util
import logging
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from datasets import disable_progress_bars, enable_progress_bars
from datasets.utils import are_progress_bars_disabled

from mergegrid.errors import InputError
from mergegrid.suites.harness_task import Description

Harness: TypeAlias = Any
"""A module, a task or another part of the harness, whose types say little."""


def find_task(name: str, include: str | None) -> Description:
    """Look a task up, and check that it has a counterpart here.

    Args:
        name: its name in the harness.
        include: a folder of task files that come before the harness's own.

    Returns:
        What its file says.

    Raises:
        InputError: if the harness is not installed, there is no such task or folder,
            or the task asks for something else than a choice.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError(
            f"The task {name} is one of lm-evaluation-harness, which is not installed: "
            f"pip install 'mergegrid[harness]'."
        )
    found = None if include is None else _included(name, Path(include).expanduser())
    found = found or _built_in(name)
    if found is None:
        raise InputError(_unknown(name, include))
    if reason := found.unfit():
        raise InputError(f"The harness's task {name} {reason}.")
    return found


@contextmanager
def quiet_harness() -> Generator[None]:
    """Keep the harness from logging, and from drawing bars, in this block.

    Yields:
        Nothing.
    """
    logger = logging.getLogger("lm_eval")
    level, draws = logger.level, not are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if draws:
            enable_progress_bars()


def _tasks() -> Harness:
    # Only here: it is an extra, and takes a second.
    import lm_eval.tasks

    return lm_eval.tasks


def _included(name: str, folder: Path) -> Description | None:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} of task files.")
    return _described(name, folder)


@functools.cache
def _built_in(name: str) -> Description | None:
    # All the harness's files take seconds to read; those that have the name do not.
    key = re.compile(rf"^\W*(task|group)\W+{re.escape(name)}\W*$", re.MULTILINE)
    for file in sorted(Path(_tasks().__file__).parent.glob("**/*.yaml")):
        if key.search(file.read_text("utf-8")):
            found = _described(name, file.parent)
            if found is not None:
                return found
    return _entry(name, _all())


@functools.cache
def _all() -> Harness:
    with quiet_harness():
        return _tasks().TaskManager()


def _described(name: str, folder: Path) -> Description | None:
    with quiet_harness():
        manager = _tasks().TaskManager(include_path=folder, include_defaults=False)
    return _entry(name, manager)


def _entry(name: str, manager: Harness) -> Description | None:
    entry = manager.task_index.get(name)
    if entry is None:
        return None
    if name in manager.all_tags:
        of = ", ".join(sorted(entry.tags))
        raise InputError(f"{name} is a tag of the harness's tasks {of}; name one.")
    if name in manager.all_groups:
        of = ", ".join(map(_member, entry.cfg.get("task") or []))
        raise InputError(f"{name} is a group of the harness's tasks {of}; name one.")
    return Description(name, entry.yaml_path, entry.cfg)


def _member(written: str | Mapping[str, Any]) -> str:
    if isinstance(written, str):
        return written
    return str(written.get("task") or written.get("group"))


def _unknown(name: str, include: str | None) -> str:
    close = difflib.get_close_matches(name, _all().all_subtasks, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    beside = "" if include is None else f", and none in {include}"
    return (
        f"There is no task {name!r} in lm-evaluation-harness{beside}.{hint} "
        f"`lm-eval ls tasks` lists them."
    )
