"""Connections to a database that can do nothing but answer.

Whoever asks writes nothing, reads no file but the database, loads no extension and
changes no setting. DuckDB is told so before anything is asked, and takes nothing back.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import duckdb

from mergegrid.errors import ResultsError

Answer: TypeAlias = tuple[list[str], list[tuple[Any, ...]]]
"""Names of the columns, and the rows."""

_SETTINGS = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",  # variables of this process as tables
    "temp_directory": "''",  # a question that needs more than memory fails
    "enable_external_access": "false",
    "lock_configuration": "true",  # the last one
}

_QUESTIONS = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,  # PIVOT
}


@contextmanager
def asking(path: Path, *, mend: str) -> Generator[duckdb.DuckDBPyConnection]:
    """Open a database for questions.

    Args:
        path: the database.
        mend: what to do if it cannot be read.

    Yields:
        A connection that can only answer.

    Raises:
        ResultsError: if the file is no database that this version of DuckDB reads.
    """
    # DuckDB keeps one instance per path in a process: a reader would go on seeing a
    # file that was replaced while another reader holds it. So each has one of its own.
    quoted = str(path).replace("'", "''")
    with duckdb.connect() as connection:
        try:
            connection.execute(f"ATTACH '{quoted}' AS results (READ_ONLY)")
        except duckdb.Error as error:
            raise ResultsError(
                f"{path} is no database that can be read; {mend}"
            ) from error
        connection.execute("USE results")
        for setting, value in _SETTINGS.items():
            connection.execute(f"SET {setting} = {value}")
        yield connection


def answer(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
) -> Answer:
    """Ask one question.

    Args:
        connection: from `asking`.
        sql: a statement that asks: SELECT, FROM, WITH, DESCRIBE, SHOW, SUMMARIZE,
            PIVOT, EXPLAIN.
        parameters: values for its question marks, or by name for its `$names`.

    Returns:
        Names of the columns, and the rows.

    Raises:
        ResultsError: if it is another statement, or several, or DuckDB does not accept
            it.
    """
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise ResultsError(
                f"The query has {len(statements)} statements; give one SELECT."
            )
        (statement,) = statements
        if not _asks(statement):
            raise ResultsError(
                "The query asks nothing; nothing can be changed here: give a SELECT."
            )
        cursor = connection.execute(statement, parameters)
        columns = [column[0] for column in cursor.description or ()]
        return columns, cursor.fetchall()
    except duckdb.Error as error:
        raise ResultsError(f"DuckDB: {one_line(error)}") from error


def _asks(statement: duckdb.Statement) -> bool:
    try:
        return statement.type in _QUESTIONS
    except ValueError:  # a kind that the Python package has no name for
        return False


def one_line(error: BaseException) -> str:
    """Say what DuckDB did not like.

    Args:
        error: DuckDB's.

    Returns:
        The first line: below it, a caret is drawn under the statement.
    """
    return str(error).strip().partition("\n")[0]
