"""Parts of a suite's data: one split of one task, by the name `<task>.<split>`."""

from collections.abc import Collection
from pathlib import Path

from mergegrid.errors import UnknownNameError
from mergegrid.suites.suite import Split


def find_part(suite: str, parts: Collection[str], task: str, split: Split) -> str:
    """Name a part that there is.

    Args:
        suite: the suite's name.
        parts: the names of its parts.
        task: a task's name.
        split: one of its splits.

    Returns:
        The part's name.

    Raises:
        UnknownNameError: if there is no such task, or it has no such split.
    """
    if (part := f"{task}.{split}") not in parts:
        raise UnknownNameError(f"part of {suite}", part, parts)
    return part


def part_file(directory: Path, part: str) -> Path:
    """Say where a part of the data is, if it has a file of its own.

    Args:
        directory: where the suite prepared them.
        part: its name.

    Returns:
        Its file.
    """
    return directory / f"{part.replace('/', '--')}.parquet"
