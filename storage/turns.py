"""Turns: no two processes do one step at the same time, as a rule.

Whoever is about to do steps writes a note of their keys, `turns/doing-<id>.json`, looks
for the notes of others, and if one has a key in common takes its own back and waits.
Both end well if they do start together after all: artifacts and records are named by
their content. So this saves work and is not what results rest on.
"""

import logging
import random
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress

from storage.notes import Note, keys_in
from storage.root import Root

FOLDER = "turns"
"""Where notes are, relative to the root."""

REFRESHES = 15.0
"""Seconds between two writings of a note."""

EXPIRES = 90.0
"""Seconds after which a note that is not written again counts for nothing."""

LOOKS = 1.0
"""Seconds between two looks whether it is one's turn, about."""

_LOG = logging.getLogger("mergegrid")


@contextmanager
def turn(root: Root, keys: Collection[str]) -> Generator[None]:
    """Wait until nobody else does any of these steps, then let others wait.

    What is left to do has to be looked up inside the block.

    Args:
        root: where results go.
        keys: the steps.

    Yields:
        Nothing.
    """
    wanted = set(keys)
    told = False
    while True:
        note = Note(root, f"{FOLDER}/doing", wanted, refreshes=REFRESHES)
        with note.kept():
            if not _others(root, note, wanted):
                yield
                return
        if not told:
            _LOG.info("Waiting for another worker that does the same.")
            told = True
        # At random, or two that give way to each other would do so for ever.
        time.sleep(LOOKS * random.uniform(0.5, 1.5))


def _others(root: Root, own: Note, wanted: set[str]) -> bool:
    times = own.times()
    now = times[own.path]
    for path, written in times.items():
        if path != own.path and now - written <= EXPIRES:
            with suppress(FileNotFoundError):  # it has just ended
                if wanted & keys_in(path, root.read(path)):
                    return True
    return False
