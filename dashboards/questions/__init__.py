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

QUESTIONS = {
    file.stem: file.read_text(encoding="utf-8").strip()
    for file in sorted(Path(__file__).parent.glob("*.sql"))
}
"""Question to its SQL."""


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
    """The answer's rows."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The answer's rows, by the names of their columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.tuples]


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
        methods: the methods to ask about; none for all.

    Returns:
        The question, with the values in their places, and its answer.
    """
    sql = re.sub(
        r"\$(\w+)", lambda named: _literal(values[named[1]]), QUESTIONS[question]
    )
    if methods:
        listed = ", ".join(_literal(method) for method in methods)
        inner = textwrap.indent(sql, "    ")
        sql = f"SELECT *\nFROM (\n{inner}\n)\nWHERE method IN ({listed})"
    return Answered(sql, *database.query(sql))


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    quoted = value.replace("'", "''")
    return f"'{quoted}'"
