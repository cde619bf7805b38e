"""What a report asks the results database: a file of SQL for each question.

Each takes the name of an experiment as `$experiment`. Subset 1 is the largest set of
experts that was merged.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = {
    file.stem: file.read_text(encoding="utf-8").strip()
    for file in sorted(Path(__file__).parent.glob("*.sql"))
}
"""Question to its SQL."""


@dataclass(frozen=True)
class Answered:
    """A question with its answer."""

    sql: str
    """The question."""

    columns: list[str]
    """Names of the answer's columns."""

    tuples: list[tuple[Any, ...]]
    """The answer's rows."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The answer's rows, by the names of their columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.tuples]

    def sql_about(self, experiment: str) -> str:
        """Write the question as it can be asked by hand.

        Args:
            experiment: the experiment's name.

        Returns:
            SQL without parameters.
        """
        quoted = experiment.replace("'", "''")
        return self.sql.replace("$experiment", f"'{quoted}'")
