"""What a root has to keep, and what it can do without."""

import json
from collections.abc import Iterator

from mergegrid.errors import MergegridError, ResultsError
from mergegrid.experiment import parse_experiment
from mergegrid.experiment_steps import build_steps
from storage.claims import used_now
from storage.garbage import Garbage, find_garbage, sweep
from storage.ledger import Ledger
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
        SELECT cell FROM scores {which}
        UNION
        SELECT parent FROM lineage JOIN needed ON child = key
    )
    SELECT key FROM needed
"""

_OF_CURRENT_DEFINITIONS = "WHERE cell IN (SELECT cell FROM current_cells)"


class Keeper:
    """Knows what recorded cells need.

    That is all that a scored cell was made from, directly or not, and all that the
    current definition of an experiment consists of, scored or not: what was interrupted
    goes on where it stopped.

    Args:
        root: where artifacts and records are.
        superseded: whether scored cells count that belong to no experiment's current
            definition.
    """

    notes: list[str]
    """What a person should know about what `needed` found."""

    def __init__(self, root: Root, *, superseded: bool = True) -> None:
        self.notes = []
        self._root = root
        self._ledger = Ledger(root)
        self._results = Results(root, self._ledger)
        self._which = "" if superseded else _OF_CURRENT_DEFINITIONS

    def needed(self) -> set[str]:
        """Read what is needed now.

        Returns:
            Keys of artifacts, and of cells.

        Raises:
            ResultsError: if what is needed cannot be known, for there are no records,
                or damaged ones.
        """
        self._results.refresh()
        if self._ledger.quarantined:
            raise ResultsError(
                f"{len(self._ledger.quarantined)} records were damaged and set aside, "
                "so what they needed is not known; run the experiments again first."
            )
        current = self._results.query(_CURRENT)[1]
        if not current:
            raise ResultsError(
                f"{self._root.url} has no record of any experiment, so nothing can be "
                "said about what is needed there; is it the right root?"
            )
        found = self._results.query(_ANCESTORS.format(which=self._which))[1]
        keys = {key for (key,) in found}
        self.notes = []
        for name, definition, document in current:
            artifacts = _artifacts(name, definition, document)
            keys |= artifacts or set()
            if artifacts is None:
                self.notes.append(
                    f"{name} was run by another version of mergegrid: what its scored "
                    "cells need is kept, but not what only unscored cells would need"
                )
        return keys

    def list_garbage(self, *, now: float, grace: float) -> list[Garbage]:
        """Say what a removal would remove.

        Args:
            now: the time in seconds since 1970.
            grace: seconds; what is younger stays.

        Returns:
            What can be removed.
        """
        needed, in_use = self.needed(), used_now(self._root)
        return find_garbage(self._root, needed, in_use, now=now, grace=grace)

    def remove_garbage(self, *, grace: float) -> Iterator[Garbage]:
        """Remove what nothing needs and no running grid uses.

        Args:
            grace: seconds; what is younger stays.

        Yields:
            What has been removed.
        """
        yield from sweep(self._root, self.needed, grace=grace)


def _artifacts(name: str, definition: str, document: str) -> set[str] | None:
    try:
        steps = build_steps(parse_experiment(json.loads(document), source=name))
    except MergegridError:
        return None
    return set(steps.artifacts) if steps.definition == definition else None
