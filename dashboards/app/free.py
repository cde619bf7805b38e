"""Questions that visitors write themselves: few rows, little time, nothing changed."""

import threading
from dataclasses import dataclass

import duckdb

from dashboards.app.follow import follower
from dashboards.questions import Answered
from mergegrid.errors import ResultsError
from storage.asking import Answer, answer, asking

MOST_ROWS = 10_000
MOST_SECONDS = 30.0


@dataclass(frozen=True)
class Freely:
    """An answer to any question."""

    answered: Answered
    """The question as it was written, with its first rows."""

    is_cut: bool
    """Whether there are more rows than `MOST_ROWS`."""


def ask_freely(sql: str) -> Freely:
    """Ask what somebody wrote.

    Args:
        sql: one statement that asks.

    Returns:
        Its answer.

    Raises:
        ResultsError: if DuckDB does not accept it, it would change something, or it
            takes longer than `MOST_SECONDS`.
    """
    mend = "make it anew with: python -m flows rebuild"
    with asking(follower().results.path, mend=mend) as connection:
        alarm = threading.Timer(MOST_SECONDS, connection.interrupt)
        alarm.start()
        try:
            columns, rows = _first_rows(connection, sql)
        except ResultsError as error:
            if alarm.is_alive():
                raise
            raise ResultsError(
                f"The question was stopped after {MOST_SECONDS:.0f} s; "
                "for longer ones use: python -m flows sql"
            ) from error
        finally:
            alarm.cancel()
    return Freely(Answered(sql, columns, rows[:MOST_ROWS]), len(rows) > MOST_ROWS)


def _first_rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Answer:
    asked = sql.strip().rstrip(";")
    try:
        return answer(connection, f"FROM (\n{asked}\n)\nLIMIT {MOST_ROWS + 1}")
    except ResultsError as error:
        if "Parser Error" not in str(error):
            raise
    # What cannot stand in parentheses: EXPLAIN, and what is no question at all.
    return answer(connection, sql)
