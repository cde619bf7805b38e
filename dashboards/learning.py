"""Figures about learning: how it went, and how good its results are for its labels."""

import math
from collections.abc import Sequence
from itertools import groupby

from plotly import graph_objects as go

from dashboards.figures import ACCURACIES, AXES
from dashboards.frame import Axis, Row, Rows, empty_figure, padded, scatter_points
from dashboards.palette import MUTED, color, faded, symbol, title
from mergegrid.learning.unsupervised import COLLAPSED

LABELLED = Axis("place", factor=1, is_log=True)
_MOST_LISTED = 4


def curves(rows: Rows) -> go.Figure:
    """Draw one method's losses against updates.

    Args:
        rows: of the question `learning`, of one method.

    Returns:
        The figure: solid is the loss on what is learned from, broken on what is held
        out. Strong lines are the chosen recipe, of a tree the merge of everything; pale
        ones are other recipes, thin ones the tree's other merges.
    """
    figure = empty_figure("updates", "loss", height=256)
    for line in _lines(rows):
        _draw(figure, line, "loss", "solid", "loss")
        _draw(figure, line, "held_out", "dash", "loss on what is held out,")
    figure.update_yaxes(rangemode="tozero")
    return _small(figure)


def labels_kept(rows: Rows) -> go.Figure:
    """Draw how many labels a method's model still answers with.

    Args:
        rows: of the question `learning`, of one method.

    Returns:
        The figure: of the task that has the least left, in percent of those at the
        start. Below the dotted line it has collapsed.
    """
    figure = empty_figure("updates", "labels kept, %", height=256)
    for line in _lines(rows):
        _draw(figure, line, "labels", "solid", "labels kept, %", factor=100)
    figure.add_hline(
        y=100 * COLLAPSED, line={"color": MUTED, "width": 1.5, "dash": "dot"}
    )
    figure.update_yaxes(range=[0, 105])
    return _small(figure)


def collapse(rows: Rows) -> str:
    """Say in words whether what a method learned has collapsed.

    Args:
        rows: of the question `learning`, of one method.

    Returns:
        A sentence about its chosen recipe, and about how many others; empty where
        nothing has.
    """
    recipes = {(row["options"], row["seed"]): row for row in rows if row["collapsed"]}
    if not recipes:
        return ""
    chosen = [row for row in recipes.values() if row["is_chosen"]]
    limit = f"fewer than {100 * COLLAPSED:.0f}% of the labels that it gave at the start"
    if not chosen:
        return f"Collapsed in {len(recipes)} recipes that were not chosen."
    tasks = list(dict.fromkeys(task for row in chosen for task in row["collapsed"]))
    return f"Collapsed: the model answers {_some(tasks)} with {limit}."


def against_labels(rows: Rows, recipes: Rows, role: str) -> go.Figure:
    """Draw accuracy against the labelled examples that it took.

    Args:
        rows: of the question `budgets`.
        recipes: of the question `budget_curve`: methods that learned from several
            numbers of labels have a line.
        role: "held_in" or "generalization".

    Returns:
        The figure; methods that need no labels stand at the left, at "none".
    """
    axis = AXES[role]
    figure = empty_figure("labelled examples", f"{ACCURACIES[role]}, %")
    there = [row for row in rows if row[role] is not None]
    counts = sorted({row["labelled"] for row in (*there, *recipes)} - {0})
    if not there:
        return figure
    none = counts[0] / 3 if counts else 1.0  # 0 has no place on a logarithmic axis
    for _, group in groupby(recipes, key=lambda row: row["method"]):
        line = [row for row in group if row[role] is not None]
        if len(line) > 1:
            _draw_sweep(figure, line, axis)
    placed = [{**row, "place": row["labelled"] or none} for row in there]
    scatter_points(figure, placed, LABELLED, axis, hover="%{y:.1f}%")
    ticks = _apart([none, *counts])
    names = ["none" if tick == none else f"{tick:,}" for tick in ticks]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=names, tickangle=0)
    places = [math.log10(count) for count in (none, *counts)]
    figure.update_xaxes(range=padded(places, [0.0] * len(places), 0.16))
    drawn = [axis.value(row) for row in (*there, *recipes) if row[role] is not None]
    figure.update_yaxes(range=padded(drawn, [0.0] * len(drawn), 0.12))
    return figure


def _lines(rows: Rows) -> list[list[Row]]:
    """Part rows by recipe, seed and node, the strongest line last."""
    ordered = sorted(rows, key=_weight)
    return [
        [*line]
        for _, line in groupby(
            ordered, lambda row: (row["options"], row["seed"], row["node"])
        )
    ]


def _weight(row: Row) -> tuple[bool, bool, str, int, str, int]:
    is_whole = row["node"] == ""
    return (
        row["is_chosen"],
        is_whole,
        row["options"],
        row["seed"],
        row["node"],
        row["updates"],
    )


def _draw(
    figure: go.Figure,
    line: Rows,
    column: str,
    dash: str,
    what: str,
    factor: float = 1,
) -> None:
    there = [row for row in line if row[column] is not None]
    if not there:
        return
    first = there[0]
    hue = color(first["method"])
    is_whole = first["node"] == ""
    experts = first["node"].count("+") + 1
    said = first["options"] + ("" if is_whole else f" merge of {experts} experts")
    figure.add_scatter(
        x=[row["updates"] for row in there],
        y=[factor * row[column] for row in there],
        mode="lines",
        line={
            "color": hue if first["is_chosen"] else faded(hue),
            "width": 2.2 if first["is_chosen"] and is_whole else 1,
            "dash": dash,
        },
        hovertemplate=f"{said}<br>%{{x}} updates: {what} %{{y:.3g}}"
        f"<extra>{title(first['method'])}</extra>",
    )


def _draw_sweep(figure: go.Figure, line: Rows, axis: Axis) -> None:
    method = line[0]["method"]
    figure.add_scatter(
        x=[row["labelled"] for row in line],
        y=[axis.value(row) for row in line],
        mode="lines+markers",
        line={"color": faded(color(method)), "width": 1.5},
        marker={"size": 6, "color": color(method), "symbol": symbol(method)},
        customdata=[row["options"] for row in line],
        hovertemplate="%{customdata}<br>%{x:,} labelled: %{y:.1f}%"
        f"<extra>{title(method)}</extra>",
    )


def _apart(counts: Sequence[float]) -> list[float]:
    """Choose those that can be written below a logarithmic axis without touching."""
    room = 0.12 * math.log10(counts[-1] / counts[0])
    kept = [counts[-1]]
    for count in reversed(counts[:-1]):
        if math.log10(kept[-1] / count) >= room:
            kept.append(count)
    return kept[::-1]


def _some(tasks: Sequence[str]) -> str:
    if len(tasks) <= _MOST_LISTED:
        return ", ".join(tasks)
    return f"{', '.join(tasks[:_MOST_LISTED])} and {len(tasks) - _MOST_LISTED} more"


def _small(figure: go.Figure) -> go.Figure:
    figure.update_xaxes(nticks=7)
    figure.update_layout(margin={"t": 8, "b": 44, "l": 50, "r": 10})
    return figure
