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

import logging
import time
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Literal

from mergegrid.errors import StorageError
from storage.notes import Note, keys_in
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
    with _note(root, "uses", wanted).kept() as note:
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

    def __init__(self, root: Root, note: Note) -> None:
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
    with _note(root, "removes", set(keys)).kept() as note:
        yield Removal(root, note)


def _note(root: Root, kind: _Kind, keys: set[str]) -> Note:
    return Note(root, f"{FOLDER}/{kind}", keys, refreshes=REFRESHES)


def expired(times: Mapping[str, float], now: float, folder: str = FOLDER) -> set[str]:
    """Pick the notes of processes that were killed.

    Args:
        times: when files were written, by path.
        now: the time, by the same clock.
        folder: where the notes are.

    Returns:
        Paths of notes.
    """
    return {
        path
        for path, written in times.items()
        if path.startswith(f"{folder}/") and now - written > EXPIRES
    }


def _wait_for_removals(root: Root, wanted: set[str], note: Note) -> None:
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
                claimed |= keys_in(path, root.read(path))
    return claimed
