"""The questions that every run ends with, and their answers as text."""

from dataclasses import dataclass
from pathlib import Path

from dashboards.transductive import MARK, marked
from storage.results import Results
from storage.root import Root

LEADERBOARD = """
    SELECT method, models, options, held_in, held_in_se,
           generalization, generalization_se, normalized, average_rank,
           merge_flops, statistics_flops, amortized_seconds, transductive
    FROM leaderboard
    WHERE experiment = ? AND subset = 1 -- the largest set of experts
    ORDER BY held_in DESC, method
"""

PREREQUISITES = """
    SELECT stage, steps, seconds, flops, bytes, cells
    FROM prerequisites
    WHERE experiment = ?
    ORDER BY seconds DESC
"""


@dataclass(frozen=True)
class Answers:
    """A table for people."""

    name: str
    """What to call it in keys."""

    title: str
    """What it says."""

    columns: list[str]
    """Names of the columns."""

    rows: list[tuple[str, ...]]
    """The cells, as text."""


def leaderboard(results: Results, experiment: str) -> Answers:
    """Ask how good each method is, over all experts together.

    Args:
        results: the database.
        experiment: the experiment's name.

    Returns:
        A row for each method, its options chosen on held-in validation, and for each
        model for reference; the best held-in test accuracy first. Transductive methods
        are marked.
    """
    _, rows = results.query(LEADERBOARD, [experiment])
    title = "Leaderboard: test accuracy in percent, options chosen on validation"
    if any(row[12] for row in rows):
        title += f";{MARK} transductive: adapted to the inputs of the test split"
    return Answers(
        "leaderboard",
        title,
        [
            "method",
            "models",
            "options",
            "held-in",
            "generalization",
            "normalized",
            "rank",
            "merge FLOPs",
            "statistics FLOPs",
            "amortized s",
        ],
        [
            (
                marked(row[0]) if row[12] else row[0],
                row[1],
                row[2],
                _percent(row[3], row[4]),
                _percent(row[5], row[6]),
                _number(row[7], ".3f"),
                _number(row[8], ".1f"),
                _number(row[9], ".2e"),
                _number(row[10], ".2e"),
                _number(row[11], ".2f"),
            )
            for row in rows
        ],
    )


def prerequisites(results: Results, experiment: str) -> Answers:
    """Ask what the shared steps cost, and how many cells shared them.

    Args:
        results: the database.
        experiment: the experiment's name.

    Returns:
        A row for each kind of step, the dearest first.
    """
    _, rows = results.query(PREREQUISITES, [experiment])
    return Answers(
        "prerequisites",
        "Prerequisites, and the cells that shared them",
        ["step", "steps", "seconds", "FLOPs", "MB", "cells"],
        [
            (
                row[0],
                str(row[1]),
                _number(row[2], ".1f"),
                _number(row[3], ".2e"),
                _number(row[4] and row[4] / 1e6, ".2f"),
                str(row[5]),
            )
            for row in rows
        ],
    )


def report_path(root: Root, experiment: str) -> Path:
    """Say where an experiment's report is.

    Args:
        root: where results live.
        experiment: the experiment's name.

    Returns:
        A file under a root that is a directory, else in the local cache.
    """
    return (root.local or root.cache) / "reports" / f"{experiment}.html"


def _percent(value: float | None, error: float | None) -> str:
    if value is None:
        return ""
    spread = "" if error is None else f" ± {100 * error:.1f}"
    return f"{100 * value:.1f}{spread}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
