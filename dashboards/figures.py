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
from dashboards.palette import FAINT, MUTED, ROLES, STAGES, color, stage_color, title

_AXES = {"held_in": HELD_IN, "generalization": GENERALIZATION}
_NAMES = {
    "held_in": "held-in accuracy",
    "generalization": "generalization accuracy",
    "normalized": "share of the experts' accuracy",
}


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


def cost_against_accuracy(rows: Rows, role: str) -> go.Figure:
    """Draw accuracy against the operations that statistics and merge took.

    Args:
        rows: of the question `costs`.
        role: "held_in" or "generalization".

    Returns:
        The figure, with the front of the cheapest merges for their accuracy.
    """
    flops = Axis("total_flops", factor=1, is_log=True)
    figure = empty_figure("statistics + merge, FLOPs", f"{_NAMES[role]}, %")
    shown = [row for row in rows if row["total_flops"]]
    front = sorted(
        (row for row in shown if row[f"on_{role}_cost_front"]), key=flops.value
    )
    hover = "%{x:.3s}FLOPs, %{y:.1f}%"
    scatter_points(figure, shown, flops, _AXES[role], hover=hover, front=front)
    figure.update_xaxes(type="log", exponentformat="SI", dtick=1)
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
    figure = empty_figure("", "accuracy, %", height=240)
    numeric = all(row["number"] is not None for row in rows)
    for role, axis in _AXES.items():
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
            hovertemplate="%{x}: %{y:.1f}%<extra>" + _NAMES[role] + "</extra>",
        )
    figure.update_yaxes(range=[0, 100 * ceiling * 1.08])
    figure.update_xaxes(nticks=7)
    figure.update_layout(margin={"t": 8, "b": 30, "l": 48, "r": 10})
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
    figure = empty_figure("number of experts merged", f"{_NAMES[column]}, %")
    sizes = sorted({row["size"] for row in rows})
    lines = [list(group) for _, group in groupby(rows, key=lambda row: row["method"])]
    lines = [line for line in lines if len(line) > 1 and line[0][column] is not None]
    if not lines:
        return figure
    for line in lines:
        hue, name = color(line[0]["method"]), title(line[0]["method"])
        merged = line[0]["kind"] == "merged"
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
            marker={"size": 7},
            customdata=[[row["samples"]] for row in line],
            hovertemplate="%{x} experts: %{y:.1f}%, %{customdata[0]} samples"
            f"<extra>{name}</extra>",
        )
    drawn = [row for line in lines for row in line]
    values = [axis.value(row) for row in drawn]
    low, high = padded(values, _spread(drawn, column), 0.06)
    across = padded([math.log10(size) for size in sizes], [0.0] * len(sizes), 0.05)
    figure.update_yaxes(range=[low, high])
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=sizes, range=across)
    label_ends(figure, [line[-1] for line in lines], axis, high - low)
    return figure


def behind_best(rows: Rows, role: str) -> go.Figure:
    """Draw how far each method is behind the best, with the error of the difference.

    Args:
        rows: of the question `paired`, the closest to the best first.
        role: "held_in" or "generalization".

    Returns:
        The figure; bars reach over two standard errors to either side.
    """
    shown = [row for row in rows if row["role"] == role]
    best = title(shown[0]["best"]) if shown else "the best"
    figure = empty_figure(f"points against {best}", "", height=90 + 30 * len(shown))
    figure.add_vline(x=0, line={"color": MUTED, "width": 1})
    for row in shown:
        hue = color(row["method"])
        figure.add_scatter(
            x=[100 * row["difference"]],
            y=[title(row["method"])],
            error_x={
                **error_bars([200 * (row["standard_error"] or 0)], hue),
                "thickness": 3,
            },
            mode="markers",
            marker={"size": 10, "color": hue},
            hovertemplate="%{x:+.2f} points over "
            f"{row['tasks']} tasks<extra>{title(row['method'])}</extra>",
        )
    figure.update_yaxes(autorange="reversed", automargin=True, ticks="")
    figure.update_layout(margin={"l": 10})
    return figure


def kept_accuracy(rows: Rows) -> go.Figure:
    """Draw what each model keeps of each expert's accuracy on the expert's task.

    Args:
        rows: of the question `normalized`, best method first.

    Returns:
        A heat map, methods by tasks.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    tasks = sorted({row["task"] for row in rows})
    values = {
        (row["method"], row["task"]): 100 * row["normalized"]
        for row in rows
        if row["normalized"] is not None
    }
    grid = [[values.get((method, task)) for task in tasks] for method in methods]
    figure = empty_figure("", "", height=140 + 28 * len(methods))
    figure.add_heatmap(
        z=grid,
        x=tasks,
        y=[title(method) for method in methods],
        text=[["" if v is None else f"{v:.0f}" for v in line] for line in grid],
        texttemplate="%{text}",
        textfont={"size": 11},
        colorscale=[[0, "#f7f3ea"], [0.55, "#a9cbe2"], [1, "#174a86"]],
        zmin=min(values.values(), default=0),
        zmax=100,
        xgap=2,
        ygap=2,
        showscale=False,
        hovertemplate="%{y} on %{x}: %{z:.1f}% of the expert's accuracy<extra></extra>",
    )
    figure.update_xaxes(side="top", tickangle=-45, showgrid=False, ticks="", dtick=1)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", automargin=True)
    figure.update_layout(margin={"t": 100, "b": 4, "l": 10, "r": 64})
    return figure


def stages(rows: Rows, order: Sequence[str]) -> go.Figure:
    """Draw where the seconds of each method's best merge come from.

    Args:
        rows: of the question of this name.
        order: methods from top to bottom.

    Returns:
        Stacked bars, a bar for each method.
    """
    known = list(STAGES)
    names = sorted(
        {row["stage"] for row in rows},
        key=lambda stage: known.index(stage) if stage in known else len(known),
    )
    values = {(r["method"], r["stage"]): r["amortized_seconds"] for r in rows}
    figure = empty_figure("amortized seconds", "", height=120 + 26 * len(order))
    for stage in names:
        figure.add_bar(
            y=[title(method) for method in order],
            x=[values.get((method, stage), 0) for method in order],
            orientation="h",
            name=stage,
            marker={"color": stage_color(stage)},
            hovertemplate="%{x:.3g} s<extra>" + stage + "</extra>",
        )
    figure.update_layout(
        barmode="stack",
        bargap=0.35,
        showlegend=True,
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
        },
        margin={"t": 54, "l": 10},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, automargin=True, ticks="")
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
    figure = empty_figure(
        f"the paper's gain in {_NAMES[role]}, points", "ours, points", height=340
    )
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
