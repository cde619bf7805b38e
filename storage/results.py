"""The results database: what the ledger records, as tables and views to query.

    <root>/results.duckdb           for a directory
    <cache>/results.duckdb          for a bucket, in the local cache

The ledger is the truth. The database is brought up to date with the records that it
has not seen yet, in a copy that replaces it when it is complete, so that readers always
find a whole one.
"""

import fcntl
import os
import shutil
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import duckdb

from mergegrid.errors import ResultsError
from storage.asking import Answer, answer, asking, one_line
from storage.ingest import Row, ingest, make_tables, summarize
from storage.schema import schema_digest

DATABASE = "results.duckdb"

MEMORY = "512MB"
"""The most that building it takes of memory; what needs more is spilt beside it."""

_APPLICATION = "mergegrid"
_MEND = "make it anew with: python -m flows rebuild"


class Location(Protocol):
    """The part of a root that the database needs."""

    @property
    def local(self) -> Path | None:
        """The directory, if the root is one."""
        ...

    @property
    def cache(self) -> Path:
        """A local directory for what can be made again."""
        ...


class Records(Protocol):
    """The part of a ledger that the database needs."""

    def list(self) -> set[str]:
        """Return the names of all records."""
        ...

    def read(self, names: Collection[str]) -> Iterator[tuple[str, Sequence[Row]]]:
        """Return each record's name and rows; damaged ones are left out."""
        ...


class Results:
    """The database under a root.

    One process at a time writes; any number of processes and threads read.

    Args:
        root: where it lives.
        ledger: what it is built from.
    """

    path: Path
    """The database file."""

    def __init__(self, root: Location, ledger: Records) -> None:
        self.path = (root.local or root.cache) / DATABASE
        self._cache = root.cache
        self._ledger = ledger

    def refresh(self) -> Path:
        """Add what has been recorded since the last time.

        Returns:
            The database file.

        Raises:
            ResultsError: if the file is no database of ours, or cannot be written.
        """
        return self._update(anew=False)

    def rebuild(self) -> Path:
        """Build the database from the ledger alone, whatever is there now.

        Returns:
            The database file.

        Raises:
            ResultsError: if the file cannot be written.
        """
        return self._update(anew=True)

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Answer:
        """Ask the database; nothing can be changed, and no other file be read.

        Args:
            sql: one statement.
            parameters: values for its question marks, or by name for its `$names`.

        Returns:
            Names of the columns, and the rows.

        Raises:
            ResultsError: if there is no database, it cannot be read or was made by
                another version, or DuckDB does not accept the statement.
        """
        if not self.path.exists():
            raise ResultsError(f"There are no results at {self.path} yet; {_MEND}")
        with asking(self.path, mend=_MEND) as connection:
            if _schema_of(connection, self.path) != schema_digest():
                raise ResultsError(
                    f"{self.path} was made by another version of mergegrid; {_MEND}"
                )
            return answer(connection, sql, parameters)

    def _update(self, *, anew: bool) -> Path:
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with _locked(self._cache / f"{DATABASE}.lock"):
                self._publish(anew=anew)
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise ResultsError(f"Cannot write {self.path}: {reason}.") from error
        return self.path

    def _publish(self, *, anew: bool) -> None:
        known, version = set[str](), ""
        if self.path.exists() and not anew:
            with asking(self.path, mend=_MEND) as connection:
                version = _schema_of(connection, self.path)
                rows = connection.execute("SELECT record FROM ingested").fetchall()
                known = {name for (name,) in rows}
        listed = self._ledger.list()
        # A record that is gone was damaged, and what it said must go with it.
        anew = anew or version != schema_digest() or not known <= listed
        if not anew and listed == known:
            return
        draft = self.path.with_name(f".{DATABASE}.draft")
        try:
            _clear(draft)  # what a killed process left
            if not anew:
                shutil.copyfile(self.path, draft)
            with duckdb.connect(draft, config={"memory_limit": MEMORY}) as connection:
                try:
                    connection.begin()  # or every statement waits for the disk
                    if anew:
                        known = set()
                        make_tables(connection, _APPLICATION, schema_digest())
                    ingest(connection, self._ledger.read(listed - known))
                    summarize(connection)
                    connection.commit()
                    connection.execute("CHECKPOINT")
                except duckdb.Error as error:
                    raise ResultsError(
                        f"Cannot build {self.path}: {one_line(error)}"
                    ) from error
            _sync(draft)
            draft.replace(self.path)
            _sync(self.path.parent)
        finally:
            _clear(draft)


def _clear(draft: Path) -> None:
    for path in (draft, draft.with_name(f"{draft.name}.wal")):
        path.unlink(missing_ok=True)
    shutil.rmtree(draft.with_name(f"{draft.name}.tmp"), ignore_errors=True)


def _schema_of(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    # The digest of the schema that a database of ours was built with.
    with suppress(duckdb.Error):
        row = connection.execute("SELECT application, schema FROM built_by").fetchone()
        if row is not None and row[0] == _APPLICATION:
            return str(row[1])
    raise ResultsError(f"{path} is a database of something else; {_MEND}")


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released with the file, also by a crash
        yield


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
