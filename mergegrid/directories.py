"""Directories that appear all at once, complete, or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from mergegrid.errors import InputError, StorageError


@contextmanager
def new_directory(
    path: Path, *, force: bool = False, keep: Iterable[Path] = ()
) -> Generator[Path]:
    """Make a directory all at once: it appears, complete, when the block ends well.

    Args:
        path: where it shall be.
        force: whether it takes the place of a directory that is there. That one stays
            as it is until the new one is complete.
        keep: files that must not go with it.

    Yields:
        An empty directory beside it, to be filled.

    Raises:
        InputError: if there is something at `path` that may not be replaced.
        StorageError: if it cannot be written; nothing is left behind.
    """
    place = path.resolve()
    _refuse_occupied(path, place, force=force)
    if force:
        _refuse_losing(path, place, keep)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise StorageError(f"Cannot write to {path}: {error.strerror}.") from None
    try:
        yield made
        made.chmod(0o755)  # not for one user alone, as temporary directories are
        _put_in_place(made, place)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"Cannot write to {path}: {_reason(error)}.") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _refuse_occupied(path: Path, place: Path, *, force: bool) -> None:
    if place.is_dir():
        if force or not any(place.iterdir()):
            return
        raise InputError(
            f"{path} exists already and is not empty. Give another place, or --force "
            f"to replace it."
        )
    if place.exists():
        raise InputError(f"{path} exists already and is a file. Give another place.")


def _refuse_losing(path: Path, place: Path, keep: Iterable[Path]) -> None:
    for file in keep:
        if file.resolve().is_relative_to(place):
            raise InputError(
                f"{path} cannot be replaced: {file} in it is needed for the merge."
            )
    if Path.cwd().is_relative_to(place):
        raise InputError(f"{path} cannot be replaced: it is where you are.")


def _put_in_place(made: Path, place: Path) -> None:
    if not place.exists():
        made.replace(place)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        place.replace(old)  # an empty directory may be renamed over
        try:
            made.replace(place)
        except BaseException:
            old.replace(place)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    number = re.search(r"os error (\d+)", str(error))  # safetensors has no errno
    return os.strerror(int(number[1])) if number else str(error)
