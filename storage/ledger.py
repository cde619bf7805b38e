"""The ledger: every result as small records that are only ever added.

    records/v1/<unit>/<sha256 of content>.jsonl     rows, one JSON object a line
    damaged/records/...                             what did not match its name

A record is named by what it says, so writers never conflict and a retry that says the
same again changes nothing.
"""

import hashlib
import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeAlias

from mergegrid.canonical import canonical_json
from storage.root import Root

Row: TypeAlias = Mapping[str, Any]
"""A row of the table that its "table" names."""

Rows: TypeAlias = list[dict[str, Any]]
"""Rows as they are read: with their "table" and "schema_version"."""

SCHEMA_VERSION = 1
"""The columns that rows are written with."""

_LOG = logging.getLogger("mergegrid")
_FOLDER = "records/v1"
_THREADS = 16  # 12,000 small records: 13 s from a bucket, 1 s from a disk
_BATCH = 512  # records in memory at a time
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Ledger:
    """The records under a root; safe in threads, and in any number of processes.

    A record's name is "<unit>/<sha256>".

    Args:
        root: where they are.
    """

    quarantined: dict[str, str]
    """Records that this ledger set aside, with what was wrong with them."""

    def __init__(self, root: Root) -> None:
        self.root = root
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
        """List the records.

        Returns:
            Their names.
        """
        return {_name(path) for path in self.root.find(_FOLDER)}

    def units(self) -> set[str]:
        """List the units that have a record.

        Returns:
            Their keys.
        """
        return {name.partition("/")[0] for name in self.list()}

    def has(self, unit: str) -> bool:
        """Say whether a unit has a record.

        Args:
            unit: the key of a step or cell.

        Returns:
            Whether there is one.
        """
        return bool(self.root.find(f"{_FOLDER}/{_checked(unit)}"))

    def rows(self, unit: str) -> Rows:
        """Read what is recorded of one unit.

        Args:
            unit: the key of a step or cell.

        Returns:
            The rows of all its records.
        """
        names = {_name(path) for path in self.root.find(f"{_FOLDER}/{_checked(unit)}")}
        return [row for _, rows in self.read(names) for row in rows]

    def read(self, names: Collection[str]) -> Iterator[tuple[str, Rows]]:
        """Read records, many at a time; a damaged one is set aside and left out.

        Args:
            names: the records.

        Yields:
            A record's name and its rows, in order of the names.
        """
        ordered = sorted(names)
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(ordered), _BATCH):
                batch = ordered[start : start + _BATCH]
                for name, rows in zip(batch, pool.map(self._read, batch), strict=True):
                    if rows is not None:
                        yield name, rows

    def _read(self, name: str) -> Rows | None:
        try:
            content = self.root.read(_path(name))
            if not _matches(content, name):
                content = self.root.read(_path(name))  # damaged on its way, perhaps
        except FileNotFoundError:
            return None
        if not _matches(content, name):
            self._set_aside(name, "its content does not match its name")
            return None
        return [json.loads(line) for line in content.splitlines()]

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
