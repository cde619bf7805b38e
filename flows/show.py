"""Tables on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from flows.answers import Answers
from flows.expected import ASSUMED_SPEED, Expected, expected
from flows.plan import Plan, prerequisites
from storage.garbage import Garbage


def plan_line(plan: Plan) -> str:
    """Say in one line what there is to do.

    Args:
        plan: what is missing.

    Returns:
        The counts of steps and cells, done and to do.
    """
    steps = plan.workspace.steps
    cells = [e for e in steps.scored.values() if not e.is_reference]
    references = len(steps.scored) - len(cells)
    unscored_references = len(plan.references())
    made = len(steps.artifacts) + references
    to_make = len(plan.missing) + unscored_references
    to_score = len(plan.unscored) - unscored_references
    return (
        f"{steps.experiment.name}: {made} steps, {made - to_make} reused, {to_make} to "
        f"run; {len(cells)} cells, {len(cells) - to_score} reused, {to_score} to score"
    )


def show_plan(plan: Plan, console: Console) -> None:
    """Print what an experiment would run and what its prerequisites cost.

    Args:
        plan: what is missing.
        console: where to print.
    """
    console.print(plan_line(plan))
    table = _table(
        "step", "steps", "reused", "to run", "est. FLOPs", "est. size", "cells"
    )
    for line in prerequisites(plan):
        table.add_row(
            line.name,
            str(line.steps),
            str(line.steps - line.to_run),
            str(line.to_run),
            f"{line.flops:.3g}",
            size(line.bytes),
            str(line.cells),
        )
    console.print(table)
    units = plan.units()
    console.print(
        f"{sum(map(len, units))} cells to merge and evaluate in {len(units)} units."
        if units
        else "No cell is left to score."
    )
    show_expected(expected(plan), console)


def show_expected(will: Expected, console: Console) -> None:
    """Print what a run is expected to fetch and to take.

    Args:
        will: the reckoning.
        console: where to print.
    """
    if will.fetches:
        table = _table("to fetch", "size", "licence")
        for fetch in will.fetches:
            known = size(fetch.bytes) if fetch.bytes else "not known"
            table.add_row(fetch.what, known, fetch.licence or "not known")
        console.print(table)
        console.print(f"{size(sum(f.bytes for f in will.fetches))} to fetch.")
    if not will.flops:
        return
    parts = {
        "training and statistics": will.prepare_flops,
        "merging": will.merge_flops,
        "evaluation": will.evaluate_flops,
    }
    console.print(
        f"{will.flops:.3g} FLOPs: "
        + ", ".join(f"{flops:.3g} {part}" for part, flops in parts.items())
    )
    console.print(
        f"{size(will.stored)} to store; {size(will.memory)} of memory for the largest "
        f"step, activations aside."
    )
    console.print(
        f"About {will.gpu_hours:.2g} GPU hours, at an assumed "
        f"{ASSUMED_SPEED / 1e12:.0f} TFLOP/s (an A100 in mixed precision)."
    )


def show_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], console: Console
) -> None:
    """Print the rows of a query.

    Args:
        columns: their names.
        rows: the values.
        console: where to print.
    """
    table = _table(*columns)
    for row in rows:
        table.add_row(*map(text, row))
    console.print(table)
    console.print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def show_answers(answers: Answers, console: Console) -> None:
    """Print a table with its title.

    Args:
        answers: the table.
        console: where to print.
    """
    console.print(f"\n{answers.title}")
    table = _table(*answers.columns)
    for row in answers.rows:
        table.add_row(*row)
    console.print(table)


def garbage_line(part: Garbage, now: float) -> str:
    """Say what can be removed, or has been, and why.

    Args:
        part: it.
        now: the time in seconds since 1970.

    Returns:
        One line.
    """
    days = max(now - part.written, 0) / 86_400
    return f"{part.path}: {size(part.size)}, {days:.1f} days old; {part.reason}"


def text(value: object) -> str:
    """Write a value for a person: numbers short, nothing for NULL.

    Args:
        value: from a row.

    Returns:
        The text.
    """
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def size(count: float) -> str:
    """Write a number of bytes for a person.

    Args:
        count: the number.

    Returns:
        The text, such as `1.5 MB`.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
