"""What a root has to keep, and what it can do without."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from mergegrid.errors import MergegridError
from mergegrid.experiment import parse_experiment
from mergegrid.steps import build_steps
from storage.claims import used_now
from storage.garbage import Garbage, find_garbage, sweep
from storage.results import Results
from storage.root import Root

_CURRENT = """
    SELECT experiment, max_by(definition, (recorded_at, definition)) AS definition,
           max_by(document, (recorded_at, definition)) AS document
    FROM experiments
    GROUP BY experiment
    ORDER BY experiment
"""

_ANCESTORS = """
    WITH RECURSIVE needed (key) AS (
        SELECT cell FROM scores WHERE {which}
        UNION
        SELECT parent FROM lineage JOIN needed ON child = key
    )
    SELECT key FROM needed
"""

_ALL = "true"
_OF_CURRENT_DEFINITIONS = "cell IN (SELECT cell FROM current_cells)"


@dataclass(frozen=True)
class Needed:
    """The artifacts that a root has to keep."""

    keys: frozenset[str]
    """Keys of artifacts and of cells."""

    notes: tuple[str, ...]
    """What a person should know about them."""


def needed_artifacts(results: Results, *, superseded: bool) -> Needed:
    """Find the artifacts that recorded cells need.

    Those are all that a scored cell was made from, directly or not, and all that the
    current definition of an experiment consists of, scored or not: an experiment that
    was interrupted goes on where it stopped.

    Args:
        results: the database, which is brought up to date.
        superseded: whether cells count that belong to no experiment's current
            definition.

    Returns:
        The artifacts.
    """
    results.refresh()
    which = _ALL if superseded else _OF_CURRENT_DEFINITIONS
    _, rows = results.query(_ANCESTORS.format(which=which))
    keys = {key for (key,) in rows}
    notes: list[str] = []
    for name, definition, document in results.query(_CURRENT)[1]:
        try:
            steps = build_steps(parse_experiment(json.loads(document), source=name))
        except MergegridError:
            steps = None
        if steps is not None and steps.definition == definition:
            keys |= steps.artifacts.keys()
        else:
            notes.append(
                f"{name} was run by another version of mergegrid: what its scored "
                "cells need is kept, but not what only unscored cells would need"
            )
    return Needed(frozenset(keys), tuple(notes))


def list_garbage(
    root: Root, results: Results, *, superseded: bool, grace: float, now: float
) -> tuple[list[Garbage], tuple[str, ...]]:
    """Say what a removal would remove.

    Args:
        root: where to look.
        results: its database.
        superseded: see `needed_artifacts`.
        grace: seconds; what is younger stays.
        now: the time in seconds since 1970.

    Returns:
        What can be removed, and what a person should know about it.
    """
    needed = needed_artifacts(results, superseded=superseded)
    found = find_garbage(root, needed.keys, used_now(root), now=now, grace=grace)
    return found, needed.notes


def remove_garbage(
    root: Root, results: Results, *, superseded: bool, grace: float
) -> Iterator[Garbage]:
    """Remove what nothing needs and no running grid uses.

    Args:
        root: where to look.
        results: its database.
        superseded: see `needed_artifacts`.
        grace: seconds; what is younger stays.

    Yields:
        What has been removed.
    """
    yield from sweep(
        root,
        lambda: needed_artifacts(results, superseded=superseded).keys,
        grace=grace,
    )
