"""Records of the ledger put into the tables of the results database.

Rows go in by the ten thousand through Arrow, so that memory does not grow with the
ledger. Which of two rows with the same key stays depends on what they say and not on
when they were read: a database that was brought up to date in steps equals one that was
built at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from mergegrid.errors import ResultsError
from storage.ledger import SCHEMA_VERSION
from storage.schema import (
    KEYS,
    MACROS,
    RELATIONS,
    TIMES,
    papers,
    question,
    tables_sql,
)

Row: TypeAlias = dict[str, Any]
"""A row as it was read, with its table and schema_version."""

_BATCH = 10_000
"""Rows that are in Python at a time."""

_PORTION = 200_000
"""Rows that are sorted out at a time."""


def make_tables(
    connection: duckdb.DuckDBPyConnection, application: str, schema: str
) -> None:
    """Make all tables in an empty database, and fill in the papers' numbers.

    Args:
        connection: to the database.
        application: whose database it is.
        schema: digest of what it consists of.
    """
    connection.execute("CREATE TABLE built_by (application VARCHAR, schema VARCHAR)")
    connection.execute("INSERT INTO built_by VALUES (?, ?)", [application, schema])
    connection.execute(tables_sql())
    for file in papers():
        connection.execute(
            "INSERT INTO paper_results BY NAME "
            "SELECT * FROM read_csv(?, header = true, all_varchar = true)",
            [str(file)],
        )


def ingest(
    connection: duckdb.DuckDBPyConnection, records: Iterable[tuple[str, Sequence[Row]]]
) -> None:
    """Put the rows of records into the tables, in several transactions.

    Args:
        connection: to the database, in a transaction; at the end it is in another.
        records: each with its name.

    Raises:
        ResultsError: if a row is for a table, or of a version, that is not known.
    """
    columns = {table: _columns(connection, table) for table in KEYS}
    waiting = 0
    _stage(connection)
    for names, batch in _batches(records, columns):
        for table, rows in batch.items():
            _insert(
                connection,
                f"staged_{table}",
                pa.Table.from_pylist(rows, schema=columns[table].schema),
            )
        _insert(connection, "ingested", pa.table({"record": names}))
        waiting += sum(map(len, batch.values()))
        if waiting >= _PORTION:
            _settle(connection)
            _stage(connection)
            waiting = 0
    _settle(connection)


def summarize(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every relation and macro anew; its question becomes its comment.

    Args:
        connection: to the database.
    """
    for relation, kind in RELATIONS.items():
        comment, sql = question(relation)
        connection.execute(f"CREATE OR REPLACE {kind} {relation} AS {sql}")
        connection.execute(f"COMMENT ON {kind} {relation} IS {_quoted(comment)}")
    for macro, parameters in MACROS.items():
        comment, sql = question(macro)
        listed = ", ".join(parameters)
        connection.execute(f"CREATE OR REPLACE MACRO {macro}({listed}) AS TABLE {sql}")
        connection.execute(f"COMMENT ON MACRO TABLE {macro} IS {_quoted(comment)}")


@dataclass(frozen=True)
class _Columns:
    """What a table has, asked once: there are a million rows to look at."""

    schema: pa.Schema
    names: frozenset[str]
    """What a row of it may hold."""

    floats: frozenset[str]
    """Those of its columns that are numbers with a point."""


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> _Columns:
    schema = connection.sql(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    names = frozenset({"table", "schema_version", *schema.names})
    return _Columns(schema, names, frozenset(floats))


def _batches(
    records: Iterable[tuple[str, Sequence[Row]]], columns: Mapping[str, _Columns]
) -> Iterator[tuple[list[str], dict[str, list[Row]]]]:
    names: list[str] = []
    batch: dict[str, list[Row]] = {table: [] for table in KEYS}
    count = 0
    for name, rows in records:
        for row in rows:
            _check(row, name, columns)
            numbers = _as_floats(row, columns[row["table"]].floats)
            batch[row["table"]].append({**row, **numbers, "record": name})
        names.append(name)
        count += len(rows)
        if count >= _BATCH:
            yield names, batch
            names, batch, count = [], {table: [] for table in KEYS}, 0
    yield names, batch


def _as_floats(row: Row, floats: frozenset[str]) -> Row:
    # Arrow refuses integers that a float64 cannot hold to the last digit, and counts
    # of operations are often larger.
    return {
        name: float(row[name])
        for name in row.keys() & floats
        if isinstance(row[name], int)
    }


def _check(row: Row, record: str, columns: Mapping[str, _Columns]) -> None:
    # A column that nobody knows would be dropped without a word.
    table, version = str(row.get("table")), row.get("schema_version")
    unknown = ""
    if table not in columns:
        unknown = f"a row of {table!r}"
    elif version != SCHEMA_VERSION:
        unknown = f"a row of {table}, version {version}"
    elif more := row.keys() - columns[table].names:
        unknown = f"a row of {table} with {', '.join(sorted(more))}"
    if unknown:
        raise ResultsError(
            f"The record {record} holds {unknown}, which this version of mergegrid "
            "does not know; use the version that wrote it, or a newer one, or move the "
            "record out of the ledger."
        )


def _stage(connection: duckdb.DuckDBPyConnection) -> None:
    for table in KEYS:
        connection.execute(
            f"CREATE TEMP TABLE staged_{table} AS SELECT * FROM {table} LIMIT 0"
        )


def _settle(connection: duckdb.DuckDBPyConnection) -> None:
    for table in KEYS:
        _settle_table(connection, table)
        connection.execute(f"DROP TABLE staged_{table}")
    # A transaction keeps what it has dropped and changed in memory, to its end.
    connection.commit()
    connection.begin()


def _settle_table(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    keys = ", ".join(KEYS[table])
    later = f"{TIMES[table]} DESC NULLS LAST, " if table in TIMES else ""
    connection.execute(
        f"CREATE TEMP TABLE settled AS SELECT * FROM ("
        f"SELECT * FROM staged_{table} UNION ALL "
        f"SELECT * FROM {table} SEMI JOIN staged_{table} USING ({keys})"
        f") QUALIFY row_number() OVER "
        f"(PARTITION BY {keys} ORDER BY {later}record DESC) = 1"
    )
    connection.execute(
        f"DELETE FROM {table} WHERE ({keys}) IN (SELECT ({keys}) FROM settled)"
    )
    connection.execute(f"INSERT INTO {table} SELECT * FROM settled")
    connection.execute("DROP TABLE settled")


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    # Not by a name for `rows` in SQL: the transaction would keep them to its end.
    connection.from_arrow(rows).insert_into(table)


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
