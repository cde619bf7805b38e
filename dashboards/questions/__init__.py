"""What is asked of the results database: a file of SQL for each question.

Values come by name: `$experiment`; `$subset`, where 1 is the largest set of experts
that was merged; `$cell`; `$paper`, `$paper_suite` and `$paper_model`.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dashboards.transductive import marked, unmarked

QUESTIONS = {
    file.stem: file.read_text(encoding="utf-8").strip()
    for file in sorted(Path(__file__).parent.glob("*.sql"))
}
"""Question to its SQL."""

_METHODS = ("method", "other", "best")  # columns that name methods


class Database(Protocol):
    """The part of the results that answers."""

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return names of columns, and rows."""
        ...


@dataclass(frozen=True)
class Answered:
    """A question with its answer."""

    sql: str
    """The question as it can be asked by hand, without parameters."""

    columns: list[str]
    """Names of the answer's columns."""

    tuples: list[tuple[Any, ...]]
    """The answer's rows, as they come from the database."""

    transductive: frozenset[str] = frozenset()
    """The methods that are; where rows say it themselves, in the column of this name,
    nobody else does."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The answer's rows by column names, with transductive methods marked."""
        found = (dict(zip(self.columns, row, strict=True)) for row in self.tuples)
        return [self._marked(row) for row in found]

    def _marked(self, row: dict[str, Any]) -> dict[str, Any]:
        if row.get("transductive"):
            return row | {"method": marked(row["method"])}
        for column in _METHODS:
            if row.get(column) in self.transductive:
                row[column] = marked(row[column])
        return row


def ask(
    database: Database,
    question: str,
    values: Mapping[str, str | int],
    *,
    methods: Sequence[str] = (),
) -> Answered:
    """Ask a question.

    Args:
        database: what is asked.
        question: a key of `QUESTIONS`.
        values: what its parameters stand for; those that it has not are ignored.
        methods: the methods to ask about, marked or not; none for all.

    Returns:
        The question, with the values in their places, and its answer.
    """
    asked = QUESTIONS[question]
    sql = re.sub(r"\$(\w+)", lambda named: _literal(values[named[1]]), asked)
    if methods:
        listed = ", ".join(_literal(method) for method in methods)
        inner = textwrap.indent(sql, "    ")
        sql = f"SELECT *\nFROM (\n{inner}\n)\nWHERE method IN ({listed})"
    columns, tuples = database.query(sql)
    known: frozenset[str] = frozenset()
    if "$experiment" in asked and "transductive" not in columns:
        subset = values["subset"] if "$subset" in asked else None
        known = _transductive(database, str(values["experiment"]), subset)
    return Answered(sql, columns, tuples, known)


def _transductive(
    database: Database, experiment: str, subset: str | int | None
) -> frozenset[str]:
    """Name the methods that are transductive, over these experts or over any."""
    found = ask(database, "transductive", {"experiment": experiment}).tuples
    return frozenset(name for name, there, _ in found if subset in {there, None})


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    quoted = unmarked(value).replace("'", "''")
    return f"'{quoted}'"
