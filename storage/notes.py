"""Notes under the root by which processes on many machines see one another.

A note holds keys of steps. It is written again and again while its process lives, and
counts for nothing when it has not been for a while: its process was killed. Times are
those of the clock of whoever keeps the files, so that it does not matter what other
clocks say. Directories and S3 servers list what has been written before, so of two
processes that each write a note and then look for others', one at least sees the other.
"""

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from uuid import uuid4

from mergegrid.canonical import canonical_json
from mergegrid.errors import StorageError
from storage.root import Root


class Note:
    """A note of this process.

    Args:
        root: where it is kept.
        prefix: of its path: a folder, and what its keys are for.
        keys: of steps.
        refreshes: seconds between two writings.
    """

    path: str
    """Where it is, relative to the root."""

    def __init__(
        self, root: Root, prefix: str, keys: set[str], *, refreshes: float
    ) -> None:
        self.path = f"{prefix}-{uuid4().hex}.json"
        self._root = root
        self._content = canonical_json({"keys": sorted(keys)}).encode()
        self._refreshes = refreshes
        self._written = -float("inf")
        self._ended = threading.Event()

    @property
    def age(self) -> float:
        """Seconds since it was written last, at most."""
        return time.monotonic() - self._written

    def write(self) -> None:
        """Write it, or write it again."""
        started = time.monotonic()
        self._root.write(self.path, self._content)
        self._written = started

    def times(self) -> dict[str, float]:
        """List when all notes of its folder were written, this one among them.

        Returns:
            Times by path.
        """
        folder = str(PurePosixPath(self.path).parent)
        times = self._root.times(folder)
        if self.path not in times:  # somebody has tidied up by hand
            self.write()
            times = self._root.times(folder)
        return times

    @contextmanager
    def kept(self) -> "Generator[Note]":
        """Keep it fresh while the block runs, and remove it at the end.

        Yields:
            The note.
        """
        self.write()
        thread = threading.Thread(target=self._refresh, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()  # or it would write the note again
            with suppress(StorageError):  # it expires by itself
                self._root.delete(self.path)

    def _refresh(self) -> None:
        while not self._ended.wait(self._refreshes):
            with suppress(StorageError):  # an outage; others wait as well
                self.write()


def keys_in(path: str, data: bytes) -> set[str]:
    """Read a note.

    Args:
        path: where it is.
        data: what it holds.

    Returns:
        The keys.

    Raises:
        StorageError: if it is no note.
    """
    try:
        return set(json.loads(data)["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} cannot be read, so nobody knows what is in use; remove it if no "
            "grid is running."
        ) from error
