"""The sections of a report about learned merging."""

from html import escape
from itertools import groupby

from plotly import graph_objects as go

from dashboards import coefficients, learning
from dashboards.captions import TEXTS
from dashboards.frame import Rows
from dashboards.learned_tables import (
    budgets_table,
    learning_costs_table,
    spread_table,
)
from dashboards.palette import title
from dashboards.parts import Answers, asked, figure_grid, roles_of, section_html
from dashboards.text import figure_html

LEARNING = ("learn", "few_shot")
"""Stages that learn from examples of several tasks."""


def learned_coefficients(answers: Answers) -> str:
    """Show what was learned, expert by parameter and by kind of layer.

    Args:
        answers: question to its answer.

    Returns:
        HTML, empty if there is nothing to show; so for every section.
    """
    rows = answers["coefficients"].rows
    if not rows:
        return ""
    text = TEXTS["learned_coefficients"]
    extent = coefficients.extent_of(rows)
    of_methods = by_method(rows)
    maps = "".join(
        figure_html(coefficients.by_parameter(own, extent), heading=title(method))
        for method, own in of_methods
    )
    kinds = "".join(
        figure_html(coefficients.by_kind(own, extent), heading=title(method))
        for method, own in of_methods
    )
    content = (
        f'<div class="figures">{maps}</div>'
        f"<p>{text['kinds']}</p>"
        f'<div class="scroll wide">{kinds}</div>'
        f"{figure_grid((coefficients.spread(rows), text['spread']), kind='one')}"
        f"{spread_table(answers['coefficient_spread'].rows)}"
        f'<p class="key">{text["table"]}</p>'
    )
    details = asked(answers, "coefficients", "coefficient_spread", with_rows=False)
    return section_html("learned_coefficients", content, details)


def learning_curves(answers: Answers) -> str:
    """Show how learning went."""
    rows = answers["learning"].rows
    if not rows:
        return ""
    content = f'<div class="figures small">{"".join(_curves(rows))}</div>'
    return section_html("learning_curves", content, asked(answers, "learning"))


def budgets(answers: Answers) -> str:
    """Show which data every method needed, and how good it is."""
    rows = answers["budgets"].rows
    if not any(row["labelled"] or row["unlabelled"] for row in rows):
        return ""
    text = TEXTS["budgets"]
    sweeps = answers["budget_curve"].rows
    figures = figure_grid(
        *(
            (learning.against_labels(rows, sweeps, role), text[role])
            for role in roles_of(rows)
        )
    )
    details = asked(answers, "budgets", "budget_curve")
    return section_html("budgets", f"{figures}{budgets_table(rows)}", details)


def learning_costs(answers: Answers) -> str:
    """Show what it takes to learn."""
    rows = answers["learning_costs"].rows
    if not any(row["stage"] in LEARNING for row in rows):
        return ""
    content = learning_costs_table(rows)
    return section_html("learning_costs", content, asked(answers, "learning_costs"))


def by_method(rows: Rows) -> list[tuple[str, Rows]]:
    """Part rows by method.

    Args:
        rows: ordered by method.

    Returns:
        Each method with its rows.
    """
    return [(name, [*own]) for name, own in groupby(rows, lambda row: row["method"])]


def curve_figures(rows: Rows) -> list[tuple[go.Figure, str, str]]:
    """Draw the losses of every method, and the labels kept where they are counted.

    Args:
        rows: of the question `learning`.

    Returns:
        Figures with their headings, and what to say below them.
    """
    drawn: list[tuple[go.Figure, str, str]] = []
    for method, own in by_method(rows):
        said = learning.collapse(own)
        drawn.append((learning.curves(own), f"{title(method)}: loss", said))
        if any(row["labels"] is not None for row in own):
            kept = learning.labels_kept(own)
            drawn.append((kept, f"{title(method)}: labels kept", said))
    return drawn


def _curves(rows: Rows) -> list[str]:
    return [
        figure_html(figure, heading=heading, caption=escape(said))
        for figure, heading, said in curve_figures(rows)
    ]
