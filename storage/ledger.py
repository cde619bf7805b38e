"""The ledger: every result as small records that are only ever added.

    records/v1/<unit>/<sha256 of content>.jsonl     rows, one JSON object a line
    segments/...                                    older records, gathered in few files
    damaged/...                                     what did not match its name

A record is named by what it says, so writers never conflict and a retry that says the
same again changes nothing.
"""

import hashlib
import json
import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeAlias

from mergegrid.canonical import canonical_json
from mergegrid.errors import StorageError
from storage.root import Root
from storage.segments import Segment, Segments

Row: TypeAlias = Mapping[str, Any]
"""A row of the table that its "table" names."""

Rows: TypeAlias = list[dict[str, Any]]
"""Rows as they are read: with their "table" and "schema_version"."""

SCHEMA_VERSION = 1
"""The columns that rows are written with."""

_LOG = logging.getLogger("mergegrid")
_RECORDS = "records"
_FOLDER = f"{_RECORDS}/v1"
_LAYOUT = re.compile(r"records/v\d+/")
_THREADS = 16  # 12,000 small records: 13 s from a bucket, 1 s from a disk
_BATCH = 512  # records in memory at a time
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Ledger:
    """The records under a root; safe in threads, and in any number of processes.

    A record's name is "<unit>/<sha256>".

    Args:
        root: where they are.
    """

    segments: Segments
    """The records that a compaction has gathered."""

    quarantined: dict[str, str]
    """Records and segments that were set aside, with what was wrong with them."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.segments = Segments(root)
        self.quarantined = {}

    def __reduce__(self) -> tuple[type["Ledger"], tuple[Root]]:
        return type(self), (self.root,)

    def append(self, unit: str, rows: Sequence[Row]) -> str:
        """Add a record; when this returns, it survives a crash.

        Args:
            unit: the key of the step or cell that the rows tell about.
            rows: each with its "table"; "schema_version" is added where it is missing.

        Returns:
            The record's name.

        Raises:
            StorageError: if the root cannot be written.
            ValueError: if there are no rows, one has no table or holds NaN or
                infinity, or the unit cannot name a folder.
        """
        if not rows or not all(row.get("table") for row in rows):
            raise ValueError(f"The record of {unit} needs rows that name their table.")
        lines = [
            canonical_json({"schema_version": SCHEMA_VERSION, **row}) for row in rows
        ]
        content = "".join(f"{line}\n" for line in lines).encode()
        name = f"{_checked(unit)}/{hashlib.sha256(content).hexdigest()}"
        self.root.write(_path(name), content)
        return name

    def list(self) -> set[str]:
        """List the records, wherever they lie.

        Returns:
            Their names.
        """
        # In this order: a record that is moved meanwhile is in one of the two.
        return self.loose() | self._covering().keys()

    def units(self) -> set[str]:
        """List the units that have a record.

        Returns:
            Their keys.
        """
        return {name.partition("/")[0] for name in self.list()}

    def has(self, unit: str) -> bool:
        """Say whether a unit has a record; for more than one, ask `recorded`.

        Args:
            unit: the key of a step or cell.

        Returns:
            Whether there is one.
        """
        return bool(self.recorded({unit}))

    def recorded(self, units: Collection[str]) -> set[str]:
        """Say which units have a record, many at a time.

        Args:
            units: keys of steps or cells.

        Returns:
            Those that have one.
        """
        paths = {unit: f"{_FOLDER}/{_checked(unit)}" for unit in units}
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(self.root.find, paths.values()))
        loose = {unit for unit, files in zip(paths, found, strict=True) if files}
        if len(loose) == len(paths):
            return loose
        covered = {name.partition("/")[0] for name in self._covering()}
        return loose | (paths.keys() & covered)

    def rows(self, unit: str) -> Rows:
        """Read what is recorded of one unit.

        Args:
            unit: the key of a step or cell.

        Returns:
            The rows of all its records.
        """
        return [row for _, rows in self.read(self._names(unit)) for row in rows]

    def read(self, names: Collection[str]) -> Iterator[tuple[str, Rows]]:
        """Read records, many at a time; a damaged one is set aside and left out.

        Args:
            names: the records.

        Yields:
            A record's name and its rows.
        """
        wanted = set(names)
        for _ in range(2):  # what a compaction moved meanwhile is found the second time
            for name, content in self._found(wanted):
                wanted.discard(name)
                yield name, [json.loads(line) for line in content.splitlines()]
            if not wanted:
                return

    def loose(self) -> set[str]:
        """List the records that lie in files of their own.

        Returns:
            Their names.

        Raises:
            StorageError: if another version of mergegrid has laid them out otherwise.
        """
        paths = self.root.find(_RECORDS).keys()
        records = {path for path in paths if path.startswith(f"{_FOLDER}/")}
        for path in paths - records:
            if _LAYOUT.match(path):
                raise StorageError(
                    f"{self.root.url} holds {path}, which this version of mergegrid "
                    "cannot read; use the version that wrote it, or a newer one."
                )
        return {_name(path) for path in records}

    def contents(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Read records that lie in files of their own.

        Args:
            names: the records.

        Yields:
            A record's name and its text, in order of the names; none for a record that
            is damaged or not there.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(names), _BATCH):
                batch = names[start : start + _BATCH]
                contents = pool.map(self._content, batch)
                for name, content in zip(batch, contents, strict=True):
                    if content is not None:
                        yield name, content

    def delete_loose(self, names: Collection[str]) -> None:
        """Remove the records' own files, once a segment holds the records.

        Args:
            names: the records.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self.root.delete, map(_path, names)))

    def _covering(self) -> dict[str, Segment]:
        return {
            name: segment
            for segment in self.segments.listed()
            for name in segment.records
        }

    def _names(self, unit: str) -> set[str]:
        loose = {_name(path) for path in self.root.find(f"{_FOLDER}/{_checked(unit)}")}
        covered = (name for name in self._covering() if name.startswith(f"{unit}/"))
        return loose | set(covered)

    def _found(self, names: set[str]) -> Iterator[tuple[str, bytes]]:
        covering = self._covering()
        by_segment = defaultdict[Segment, list[str]](list)
        for name in sorted(names & covering.keys()):
            by_segment[covering[name]].append(name)
        for segment, wanted in by_segment.items():
            contents = self.segments.read(segment, wanted)
            if contents is None:
                self.segments.set_aside(segment)
                self.quarantined[segment.path] = "its content does not match its name"
            else:
                yield from contents.items()
        yield from self.contents(sorted(names - covering.keys()))

    def _content(self, name: str) -> bytes | None:
        try:
            content = self.root.read(_path(name))
            if not _matches(content, name):
                content = self.root.read(_path(name))  # damaged on its way, perhaps
        except FileNotFoundError:
            return None
        if not _matches(content, name):
            self._set_aside(name, "its content does not match its name")
            return None
        return content

    def _set_aside(self, name: str, fault: str) -> None:
        _LOG.warning("Setting the damaged record %s aside: %s.", name, fault)
        self.quarantined[name] = fault
        with suppress(FileNotFoundError):
            self.root.move(_path(name), f"damaged/{_path(name)}")


def _checked(unit: str) -> str:
    if not _UNIT.fullmatch(unit):
        raise ValueError(f"{unit!r} cannot name a unit.")
    return unit


def _path(name: str) -> str:
    return f"{_FOLDER}/{name}.jsonl"


def _name(path: str) -> str:
    return path.removeprefix(f"{_FOLDER}/").removesuffix(".jsonl")


def _matches(content: bytes, name: str) -> bool:
    return hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
