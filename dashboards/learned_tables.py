"""Tables about learning: what it takes, and what is learned."""

from html import escape

from dashboards.frame import Row, Rows
from dashboards.palette import stage_title, title
from dashboards.tables import numbers_table
from dashboards.text import DASH, duration, glyph, percent, quantity

DATA = ("labelled", "unlabelled")
"""Columns that count examples by what was used of them."""


def spread_table(rows: Rows) -> str:
    """Write how many coefficients are negative, near zero, or near their bound.

    Args:
        rows: of the question `coefficient_spread`.

    Returns:
        HTML.
    """
    return numbers_table(
        (
            "method",
            "chosen options",
            "coefficients",
            "least",
            "median",
            "most",
            "negative, %",
            "near 0, %",
            "near the<br>bound, %",
        ),
        [
            (
                _name(row),
                escape(row["options"]),
                f"{row['coefficients']:,}",
                f"{row['least']:.2f}",
                f"{row['median']:.2f}",
                f"{row['most']:.2f}",
                percent(row["negative"]),
                percent(row["near_zero"]),
                percent(row["near_bound"]),
            )
            for row in rows
        ],
        texts=2,
    )


def budgets_table(rows: Rows) -> str:
    """Write which data each method needed, and how good it is.

    Args:
        rows: of the question `budgets`.

    Returns:
        HTML.
    """
    return numbers_table(
        (
            "method",
            "chosen options",
            "labelled<br>examples",
            "unlabelled<br>inputs",
            "held-in",
            "generalization",
        ),
        [
            (
                _name(row),
                escape(row["options"]),
                f"{row['labelled']:,}",
                f"{row['unlabelled']:,}",
                percent(row["held_in"], row["held_in_se"]),
                percent(row["generalization"], row["generalization_se"]),
            )
            for row in rows
        ],
        texts=2,
    )


def learning_costs_table(rows: Rows) -> str:
    """Write what learning takes, as in Table 5 of the SuperMerge paper.

    Args:
        rows: of the question `learning_costs`.

    Returns:
        HTML.
    """
    return numbers_table(
        (
            "method",
            "step",
            "numbers<br>learned",
            "task vectors<br>at a time",
            "memory<br>by formula",
            "memory<br>measured",
            "examples",
            "epochs",
            "FLOPs<br>an epoch",
            "time",
        ),
        [
            (
                _name(row),
                stage_title(row["stage"]),
                _count(row["trained"]),
                _count(row["together"]),
                quantity(row["paper_memory"], "B"),
                quantity(row["peak_memory"], "B"),
                _examples(row),
                DASH if row["epochs"] is None else f"{row['epochs']:.3g}",
                # A merge goes over its parameters, once, and over no examples.
                quantity(row["flops_per_epoch"] or row["flops"]),
                duration(row["seconds"]),
            )
            for row in rows
        ],
        texts=2,
    )


def _name(row: Row) -> str:
    return f"{glyph(row['method'])}{escape(title(row['method']))}"


def _examples(row: Row) -> str:
    said = [f"{row[kind]:,.0f} {kind}" for kind in DATA if row[kind]]
    return "<br>".join(said) or DASH


def _count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"
