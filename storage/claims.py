"""Claims: notes under the root by which running grids and removals see one another.

    claims/uses-<id>.json       artifacts that a grid reads or makes while it runs
    claims/removes-<id>.json    artifacts that are being removed

Who uses artifacts writes a note and then looks for removals; who removes them writes a
note and then looks for uses. Whichever comes first, one of the two sees the other, as
directories and S3 servers list what has been written before. Whoever removes gives way
to every use that it sees; a use that comes too late for that waits for its end.

A note is written again and again. One that has not been for `EXPIRES` seconds was left
by a process that was killed, and counts for nothing. Times are those of the clock of
whoever keeps the files, so that it does not matter what other clocks say.
"""

import json
import logging
import threading
import time
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Literal
from uuid import uuid4

from mergegrid.canonical import canonical_json
from mergegrid.errors import StorageError
from storage.patience import PATIENCE, seconds
from storage.root import Root

FOLDER = "claims"
"""Where notes are, relative to the root."""

EXPIRES = 3600.0
"""Seconds after which a note that is not written again counts for nothing."""

REFRESHES = 60.0
"""Seconds between two writings of a note."""

SLACK = 600.0
"""Seconds that one request may take beyond the patience that there is for storage."""

LOOKS = 1.0
"""Seconds between two looks whether a removal has ended."""

_Kind = Literal["uses", "removes"]
_LOG = logging.getLogger("mergegrid")


@contextmanager
def using(root: Root, keys: Collection[str]) -> Generator[None]:
    """Protect artifacts, there or yet to be made, while the block runs.

    Look for what is there only inside the block. Before it begins, this waits for the
    end of removals that concern these artifacts.

    Args:
        root: where they are.
        keys: the artifacts.

    Yields:
        Nothing.

    Raises:
        StorageError: if the root cannot be read or written.
    """
    wanted = set(keys)
    with _Note(root, "uses", wanted).kept() as note:
        _wait_for_removals(root, wanted, note)
        yield


def used_now(root: Root) -> set[str]:
    """List what grids use that run now, to say so and for nothing else.

    Args:
        root: where to look; it is not written to.

    Returns:
        Keys of artifacts.
    """
    times = root.times(FOLDER)
    return _claimed(root, "uses", times, now=max(times.values(), default=0.0))


class Removal:
    """A removal that others have been told of.

    Args:
        root: where it takes place.
        note: tells them.
    """

    def __init__(self, root: Root, note: "_Note") -> None:
        self._root = root
        self._note = note
        self.now = note.times()[note.path]
        """The time when it was told: seconds since 1970, by the storage's clock."""

    def in_use(self) -> set[str]:
        """List what others use.

        Returns:
            Keys of artifacts. Whoever begins to use one of the removal's own after
            this was called waits for the removal's end.

        Raises:
            StorageError: if a note cannot be read.
        """
        times = self._note.times()
        return _claimed(self._root, "uses", times, now=times[self._note.path])

    def check(self) -> None:
        """Make sure, before each request that removes something, that others know.

        Raises:
            StorageError: if they may believe that this removal was killed.
        """
        if self._note.age > EXPIRES - SLACK - seconds():
            raise StorageError(
                "The removal was held up for too long and has stopped; nothing that is "
                f"needed was removed. Start it again, with a {PATIENCE} well below "
                f"{EXPIRES:.0f} s."
            )


@contextmanager
def removing(root: Root, keys: Collection[str]) -> Generator[Removal]:
    """Tell others that artifacts are being removed, while the block runs.

    Args:
        root: where they are.
        keys: the artifacts; remove no others.

    Yields:
        What to ask before anything is removed.
    """
    with _Note(root, "removes", set(keys)).kept() as note:
        yield Removal(root, note)


def expired(times: Mapping[str, float], now: float) -> set[str]:
    """Pick the notes of processes that were killed.

    Args:
        times: when files were written, by path.
        now: the time, by the same clock.

    Returns:
        Paths of notes.
    """
    return {
        path
        for path, written in times.items()
        if path.startswith(f"{FOLDER}/") and now - written > EXPIRES
    }


class _Note:
    """A note of this process.

    Args:
        root: where it is kept.
        kind: what its keys are for.
        keys: of artifacts.
    """

    def __init__(self, root: Root, kind: _Kind, keys: set[str]) -> None:
        self.path = f"{FOLDER}/{kind}-{uuid4().hex}.json"
        self._root = root
        self._content = canonical_json({"keys": sorted(keys)}).encode()
        self._written = -EXPIRES
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
        """List when all notes were written, this one among them."""
        times = self._root.times(FOLDER)
        if self.path not in times:  # somebody has tidied up by hand
            self.write()
            times = self._root.times(FOLDER)
        return times

    @contextmanager
    def kept(self) -> "Generator[_Note]":
        """Keep it fresh while the block runs, and remove it at the end."""
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
        while not self._ended.wait(REFRESHES):
            with suppress(StorageError):  # an outage; others wait as well
                self.write()


def _wait_for_removals(root: Root, wanted: set[str], note: _Note) -> None:
    told = False
    while True:
        times = note.times()
        if not wanted & _claimed(root, "removes", times, now=times[note.path]):
            return
        if not told:
            _LOG.warning("Waiting for a removal of artifacts that are needed here.")
            told = True
        time.sleep(LOOKS)
        note.write()  # for the time that it gets


def _claimed(
    root: Root, kind: _Kind, times: Mapping[str, float], *, now: float
) -> set[str]:
    claimed = set[str]()
    for path in times.keys() - expired(times, now):
        if path.startswith(f"{FOLDER}/{kind}-"):
            with suppress(FileNotFoundError):  # it has just ended
                claimed |= _keys_in(path, root.read(path))
    return claimed


def _keys_in(path: str, data: bytes) -> set[str]:
    try:
        return set(json.loads(data)["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} cannot be read, so nobody knows what is in use; remove it if no "
            "grid is running."
        ) from error
