"""Figures, each drawn from the rows of one question; no framework, only plotly."""

import math
from collections.abc import Sequence
from itertools import groupby

from plotly import graph_objects as go

from dashboards.frame import (
    GENERALIZATION,
    HELD_IN,
    Axis,
    Row,
    Rows,
    empty_figure,
    error_bars,
    label_ends,
    padded,
    scatter_points,
)
from dashboards.palette import FAINT, ROLES, color, symbol, title

AXES = {"held_in": HELD_IN, "generalization": GENERALIZATION}
"""Kind of task to the axis of its accuracy."""

ACCURACIES = {
    "held_in": "held-in accuracy",
    "generalization": "generalization accuracy",
    "normalized": "share of the experts' accuracy",
}
"""Column to what it holds, for people."""


def held_in_vs_generalization(rows: Rows, *, references: bool = True) -> go.Figure:
    """Draw each method's accuracy on held-in tasks against that on other tasks.

    Args:
        rows: of the question of this name.
        references: whether to show all models that were not merged, and to name them
            alone; with the pretrained one only, the merges fill the figure.

    Returns:
        The figure, error bars of one standard error, with the Pareto front.
    """
    shown = [
        row
        for row in rows
        if references or row["kind"] == "merged" or row["method"] == "pretrained"
    ]
    figure = empty_figure("held-in accuracy, %", "generalization accuracy, %")
    front = sorted((row for row in shown if row["on_front"]), key=HELD_IN.value)
    scatter_points(
        figure,
        shown,
        HELD_IN,
        GENERALIZATION,
        hover="%{x:.1f}% held-in, %{y:.1f}% generalization",
        front=front,
        labelled=[row for row in shown if row["kind"] != "merged" or not references],
    )
    return figure


def sensitivity(rows: Rows, pretrained: Row | None, ceiling: float) -> go.Figure:
    """Draw both accuracies along one option of one method.

    Args:
        rows: those of the question of this name about this option.
        pretrained: the leaderboard's row of the pretrained model, if there is one.
        ceiling: the highest accuracy in any such figure, for a common scale.

    Returns:
        The figure; a ring marks the value that validation chose, a dotted line the
        pretrained model.
    """
    option = rows[0]["option"] if rows else "option"
    figure = empty_figure(option, "accuracy, %", height=256)
    numeric = all(row["number"] is not None for row in rows)
    for role, axis in AXES.items():
        if any(row[role] is None for row in rows):
            continue  # not every suite has generalization tasks
        hue = ROLES[role]
        if pretrained is not None:
            figure.add_hline(
                y=axis.value(pretrained),
                line={"color": hue, "width": 1, "dash": "dot"},
            )
        figure.add_scatter(
            x=[row["number"] if numeric else row["value"] for row in rows],
            y=[axis.value(row) for row in rows],
            error_y=error_bars([axis.error(row) for row in rows], hue),
            mode="lines+markers",
            line={"color": hue, "width": 2},
            marker={
                "size": [12 if row["is_chosen"] else 5 for row in rows],
                "color": ["white" if row["is_chosen"] else hue for row in rows],
                "line": {"color": hue, "width": 2},
                "opacity": 1,
            },
            hovertemplate="%{x}: %{y:.1f}%<extra>" + ACCURACIES[role] + "</extra>",
        )
    figure.update_yaxes(range=[0, 100 * ceiling * 1.08])
    figure.update_xaxes(nticks=7)
    figure.update_layout(margin={"t": 8, "b": 44, "l": 50, "r": 10})
    return figure


def scaling(rows: Rows, column: str) -> go.Figure:
    """Draw accuracy against the number of experts, a line for each method.

    Args:
        rows: of the question of this name, ordered by method and size.
        column: "held_in", "generalization" or "normalized".

    Returns:
        The figure; error bars are the standard deviation between samples of experts.
        Methods merged at one size alone are left to the leaderboard.
    """
    axis = Axis(column)
    figure = empty_figure("number of experts merged", f"{ACCURACIES[column]}, %")
    sizes = sorted({row["size"] for row in rows})
    rows = [row for row in rows if row[column] is not None]
    lines = [list(group) for _, group in groupby(rows, key=lambda row: row["method"])]
    lines = [line for line in lines if len(line) > 1]
    if not lines:
        return figure
    for line in lines:
        hue, name = color(line[0]["method"]), title(line[0]["method"])
        merged = line[0]["kind"] != "reference"
        figure.add_scatter(
            x=[row["size"] for row in line],
            y=[axis.value(row) for row in line],
            error_y=error_bars(_spread(line, column), hue) if merged else None,
            mode="lines+markers" if merged else "lines",
            line={
                "color": hue,
                "width": 2.2 if merged else 1.5,
                "dash": "solid" if merged else "dot",
            },
            marker={"size": 8, "symbol": symbol(line[0]["method"])},
            customdata=[[row["samples"]] for row in line],
            hovertemplate="%{x} experts: %{y:.1f}%, %{customdata[0]} samples"
            f"<extra>{name}</extra>",
        )
    drawn = [row for line in lines for row in line]
    values = [axis.value(row) for row in drawn]
    low, high = padded(values, _spread(drawn, column), 0.06)
    across = padded([math.log10(size) for size in sizes], [0.0] * len(sizes), 0.05)
    figure.update_yaxes(range=[low, high])
    ticks = _apart(sizes)
    figure.update_xaxes(
        type="log", tickvals=ticks, ticktext=ticks, tickangle=0, range=across
    )
    label_ends(figure, [line[-1] for line in lines], axis, high - low)
    return figure


def against_paper(rows: Rows, role: str) -> go.Figure:
    """Draw each method's gain over the pretrained model against the paper's.

    Args:
        rows: of the question of this name.
        role: "held_in" or "generalization".

    Returns:
        The figure, with the line on which both are equal.
    """
    ours, paper = Axis("gain", factor=1), Axis("paper_gain", factor=1)
    shown = [row for row in rows if row["role"] == role]
    figure = empty_figure("the paper's gain, points", "our gain, points", height=340)
    values = [value for row in shown for value in (row["gain"], row["paper_gain"])]
    ends = [min(values, default=0), max(values, default=0)]
    hover = "paper %{x:+.1f}, ours %{y:+.1f} points"
    scatter_points(figure, shown, paper, ours, hover=hover)
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": FAINT, "width": 1.5, "dash": "dash"},
        hoverinfo="skip",
    )
    return figure


def correlation(r: float | None, p: float | None, count: int | None) -> str:
    """Write Pearson's correlation for people.

    Args:
        r: the correlation.
        p: its p-value.
        count: how many pairs it is from.

    Returns:
        The text; empty where there is no correlation.
    """
    if r is None or math.isnan(r) or p is None:
        return ""
    return f"Pearson's r = {r:.2f} (p = {p:.2g}, {count} methods)"


def _spread(rows: Rows, column: str) -> list[float]:
    return [100 * (row[f"{column}_sd"] or 0) for row in rows]


def _apart(sizes: Sequence[int]) -> list[int]:
    # Those that can be written below a logarithmic axis without touching.
    room = 0.1 * math.log10(sizes[-1] / sizes[0])
    kept = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if math.log10(kept[-1] / size) >= room:
            kept.append(size)
    return kept[::-1]
