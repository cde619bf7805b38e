"""A directory of copies that is kept within a size: the least recently used go first.

    <key>/<content>/...         copies
    <key>/<content>.lock        locked by whoever uses them; its time says when

What a process has just asked for stays, whoever else needs room; its locks go with it,
however it ends. Files that are mapped into memory outlive their names, so only opening
them needs that protection.
"""

import fcntl
import os
import re
import shutil
import threading
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from mergegrid.errors import InputError
from storage.directory import make_folder

CACHE_SIZE = "MERGEGRID_CACHE_SIZE"
"""Environment variable: the most that copies of a bucket's artifacts may take."""

DEFAULT_SIZE = "50 GB"

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", re.IGNORECASE)
_HELD = 64  # folders that a process has asked for last
_GOAL = 0.9  # of the size: once something has to go, so that it is not always so


class Room:
    """The copies below a directory; safe in threads, and in any number of processes.

    Args:
        directory: holds folders of two levels, and nothing else.
        discarded: a directory on the same file system, for what is being removed.
    """

    def __init__(self, directory: Path, discarded: Path) -> None:
        self._directory = directory
        self._discarded = discarded
        self._lock = threading.Lock()
        self._held = OrderedDict[Path, IO[bytes]]()
        self._kept = dict[Path, IO[bytes]]()
        self._free = 0
        weakref.finalize(self, _close, self._held, self._kept)

    def hold(self, folder: Path, *, keep: bool) -> None:
        """Protect a folder, which need not be there yet, from being removed.

        Args:
            folder: below the directory.
            keep: for as long as this process lives; otherwise until it has asked for
                many others.
        """
        with self._lock:
            known = self._kept.get(folder, self._held.get(folder))
            if known is None or not _is_at(_lock_of(folder), known):
                self._release(folder)
                self._held[folder] = known = _locked(_lock_of(folder), fcntl.LOCK_SH)
            os.utime(known.fileno())
            if folder in self._held:
                self._held.move_to_end(folder)
                if keep:
                    self._kept[folder] = self._held.pop(folder)
            while len(self._held) > _HELD:
                self._release(next(iter(self._held)))

    def make(self, size: int) -> None:
        """Remove what has not been used for longest, as far as room is needed.

        A process looks again at what all processes have stored when the room that it
        saw last is used up.

        Args:
            size: bytes that are about to be stored.
        """
        with self._lock:
            self._free -= size
            if self._free >= 0:
                return
            limit = cache_size()
            sizes = self._sizes()
            used = sum(sizes.values()) + size
            goal = limit if used <= limit else _GOAL * limit
            for folder in sorted(sizes, key=_used_at):
                if used <= goal:
                    break
                if self._remove(folder):
                    used -= sizes[folder]
            # Others store as well: count on a part of what is free, and look again.
            self._free = max(limit - used, 0) // 8

    def _sizes(self) -> dict[Path, int]:
        sizes = defaultdict[Path, int](int)
        for name, _, files in os.walk(self._directory):  # what vanishes is left out
            key, *content = Path(name).relative_to(self._directory).parts or ("",)
            if content:
                folder = self._directory / key / content[0]
                sizes[folder] += sum(_size_of(Path(name, file)) for file in files)
        return sizes

    def _remove(self, folder: Path) -> bool:
        lock, target = _lock_of(folder), self._discarded / uuid4().hex
        try:
            held = _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody uses it
            return False
        with held, suppress(OSError):
            self._discarded.mkdir(parents=True, exist_ok=True)
            folder.rename(target)  # in one step: nobody sees half of it
            lock.unlink()
        shutil.rmtree(target, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()  # unless something else is in it
        return not folder.exists()

    def _release(self, folder: Path) -> None:
        for held in (self._held, self._kept):
            if folder in held:
                held.pop(folder).close()


def cache_size() -> int:
    """Say how much copies may take.

    Returns:
        Bytes: the size in the environment, or `DEFAULT_SIZE`.

    Raises:
        InputError: if what the environment says is no size.
    """
    text = os.environ.get(CACHE_SIZE, DEFAULT_SIZE)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InputError(f"{CACHE_SIZE} is {text!r}; give a size such as 20 GB.")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _close(*opened: MutableMapping[Path, IO[bytes]]) -> None:
    for files in opened:
        for file in files.values():
            file.close()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _locked(lock: Path, operation: int) -> IO[bytes]:
    while True:
        with suppress(FileNotFoundError):  # its folder has just been removed
            make_folder(lock.parent)
            file = lock.open("ab")  # network file systems lock what is open for writing
            try:
                fcntl.flock(file, operation)
            except OSError:
                file.close()
                raise
            if _is_at(lock, file):
                return file
            file.close()  # it was removed between the two calls


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _used_at(folder: Path) -> float:
    try:
        return _lock_of(folder).stat().st_mtime
    except FileNotFoundError:
        return 0.0
