"""What the results database consists of: tables, and views that answer questions.

Tables hold what is recorded and are declared in `tables.sql`. Each file in `views/` is
one question with its answer in SQL and gives a relation its name. Those that many cells
make slow are stored when the database is brought up to date; the others are views. Each
file in `macros/` is a question with parameters, asked as `FROM name(...)`: what would
be too much for all experiments at once.
"""

import functools
import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent
_PAPERS = _FOLDER.parent / "configs" / "papers"

KEYS = {
    "experiments": ("experiment", "definition"),
    "cells": ("experiment", "definition", "cell"),
    "scores": ("cell", "task", "split", "metric"),
    "costs": ("step", "stage"),
    "artifacts": ("artifact",),
    "lineage": ("child", "parent"),
    "storage": ("cell", "part"),
    "coefficients": ("step", "task", "parameter"),
    "learning": ("step", "node", "updates"),
    "profiles": ("experiment", "definition", "profile"),
    "task_vectors": ("profile", "parameter"),
    "conflicts": ("profile", "density"),
    "magnitudes": ("profile", "density", "grouping", "level", "merging"),
    "agreements": ("profile", "merge_by", "density", "mask_threshold", "tasks"),
    "masks": ("profile", "merge_by", "density", "mask_threshold", "task"),
}
"""Recorded table to the columns that identify a row."""

TIMES = {
    "experiments": "recorded_at",
    "costs": "recorded_at",
    "artifacts": "created_at",
}
"""Recorded table to the column by which the later of two equal rows is known."""

RELATIONS = {
    "current_cells": "VIEW",
    "subsets": "TABLE",
    "entries": "TABLE",
    "accuracies": "TABLE",
    "uses": "TABLE",
    "charges": "TABLE",
    "recipes": "TABLE",
    "task_accuracies": "TABLE",
    "task_ranks": "TABLE",
    "ranks": "TABLE",
    "paired": "VIEW",
    "leaderboard": "VIEW",
    "chosen": "VIEW",
    "sensitivity": "VIEW",
    "scale_sweeps": "VIEW",
    "selections": "VIEW",
    "consensus_thresholds": "VIEW",
    "scaling": "VIEW",
    "incremental": "VIEW",
    "held_in_vs_generalization": "VIEW",
    "normalized": "VIEW",
    "amortized_costs": "VIEW",
    "prerequisites": "VIEW",
    "memory_peaks": "VIEW",
    "budget_curve": "VIEW",
    "budgets": "VIEW",
    "learned_coefficients": "VIEW",
    "learning_curves": "VIEW",
    "learning_costs": "VIEW",
    "pareto": "VIEW",
    "storage_vs_accuracy": "VIEW",
    "against_paper": "VIEW",
    "current_profiles": "VIEW",
    "layer_spread": "VIEW",
    "sign_conflicts": "VIEW",
    "merged_magnitudes": "VIEW",
    "mask_agreement": "VIEW",
    "mask_shares": "VIEW",
}
"""File in `views/` to whether it is stored; each comes after those that it reads."""

MACROS = {
    "bootstrap_replicates": ("in_experiment", "in_subset", "replicates := 2000"),
    "bootstrap": ("in_experiment", "in_subset", "replicates := 2000"),
}
"""File in `macros/` to its parameters, some with defaults; each comes after those it
reads."""


def tables_sql() -> str:
    """Read how the tables are made.

    Returns:
        SQL statements.
    """
    return (_FOLDER / "tables.sql").read_text(encoding="utf-8")


def question(name: str) -> tuple[str, str]:
    """Read the question that a relation or a macro answers.

    Args:
        name: a key of `RELATIONS` or `MACROS`.

    Returns:
        The comment at the head of its file as one line, and its SQL.
    """
    head: list[str] = []
    lines = _file(name).read_text(encoding="utf-8").splitlines()
    while lines and lines[0].startswith("--"):
        head.append(lines.pop(0).removeprefix("--").strip())
    return " ".join(head), "\n".join(lines).strip()


def papers() -> list[Path]:
    """List the files that hold published numbers.

    Returns:
        CSV files with the columns of `paper_results`.
    """
    return sorted(_PAPERS.glob("*.csv"))


@functools.cache
def schema_digest() -> str:
    """Digest everything that decides what a database built from given records holds.

    Returns:
        Hexadecimal digits, which a database keeps to tell when it is out of date.
    """
    files = [
        _FOLDER / "tables.sql",
        *(_file(name) for name in (*RELATIONS, *MACROS)),
        *papers(),
    ]
    whole = hashlib.sha256(repr((KEYS, TIMES, RELATIONS, MACROS)).encode())
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()[:16]


def _file(name: str) -> Path:
    folder = "macros" if name in MACROS else "views"
    return _FOLDER / folder / f"{name}.sql"
