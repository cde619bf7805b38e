"""Figures about which method is better, and how surely."""

from typing import Any

from plotly import graph_objects as go

from dashboards.frame import (
    GENERALIZATION,
    HELD_IN,
    Axis,
    Rows,
    empty_figure,
    error_bars,
)
from dashboards.palette import MUTED, color, symbol, title

_ROLES = {
    "held_in": (HELD_IN, "held-in"),
    "generalization": (GENERALIZATION, "generalization"),
}


def ranking(rows: Rows) -> go.Figure:
    """Draw both accuracies of every method, one method a line.

    Args:
        rows: of the question `leaderboard`.

    Returns:
        The figure; full points are held-in tasks, hollow ones generalization tasks, and
        bars reach over one standard error to either side.
    """
    shown = sorted(
        (row for row in rows if row["held_in"] is not None),
        key=lambda row: (row["kind"] == "reference", -row["held_in"]),
    )
    figure = empty_figure("test accuracy, %", "", height=112 + 27 * len(shown))
    for role, (axis, name) in _ROLES.items():
        figure.add_scatter(
            x=[None],
            y=[title(shown[0]["method"])] if shown else [None],
            mode="markers",
            name=name,
            marker=_marker(MUTED, "circle", role),
            showlegend=True,
        )
        for row in shown:
            if row[role] is None:
                continue
            hue = color(row["method"])
            figure.add_scatter(
                x=[axis.value(row)],
                y=[title(row["method"])],
                error_x={**error_bars([axis.error(row)], hue), "thickness": 2},
                mode="markers",
                marker=_marker(hue, symbol(row["method"]), role),
                showlegend=False,
                hovertemplate="%{x:.1f}% ± "
                f"{axis.error(row):.1f}, {name}<br>{row['options'] or ''}"
                f"<extra>{title(row['method'])}</extra>",
            )
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        margin={"l": 10, "t": 36},
    )
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=[title(row["method"]) for row in reversed(shown)],
        automargin=True,
        ticks="",
    )
    return figure


def by_task(rows: Rows, method: str) -> go.Figure:
    """Draw one model's accuracy on each task, beside the models for reference.

    Args:
        rows: of the question `cell_scores`, those of one split and kind of task.
        method: what merged the model.

    Returns:
        The figure; bars reach over one standard error to either side.
    """
    figure = empty_figure("accuracy, %", "", height=104 + 21 * len(rows))
    accuracy = Axis("accuracy")
    for reference in ("pretrained", "individual"):
        beside = [row for row in rows if row[reference] is not None]
        figure.add_scatter(
            x=[Axis(reference).value(row) for row in beside],
            y=[row["task"] for row in beside],
            mode="markers",
            name=title(reference),
            marker={
                "size": 9,
                "color": color(reference),
                "symbol": f"{symbol(reference)}-open",
            },
            hovertemplate="%{x:.1f}% on %{y}<extra>" + title(reference) + "</extra>",
        )
    hue = color(method)
    figure.add_scatter(
        x=[accuracy.value(row) for row in rows],
        y=[row["task"] for row in rows],
        error_x={
            **error_bars([accuracy.error(row) for row in rows], hue),
            "thickness": 2,
        },
        mode="markers",
        name=title(method),
        marker={"size": 10, "color": hue, "symbol": symbol(method)},
        hovertemplate="%{x:.1f}% on %{y}<extra>" + title(method) + "</extra>",
    )
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        margin={"l": 10, "t": 36},
    )
    figure.update_yaxes(autorange="reversed", automargin=True, ticks="", dtick=1)
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
    # On two lines: beside long names there is little room below the axis.
    named = f"difference to<br>{best}, points"
    figure = empty_figure(named, "", height=106 + 30 * len(shown))
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
            marker={"size": 11, "color": hue, "symbol": symbol(row["method"])},
            hovertemplate="%{x:+.2f} points over "
            f"{row['tasks']} tasks<extra>{title(row['method'])}</extra>",
        )
    figure.update_yaxes(autorange="reversed", automargin=True, ticks="")
    figure.update_layout(margin={"l": 10, "b": 64})
    return figure


def _marker(hue: str, shape: str, role: str) -> dict[str, Any]:
    return {
        "size": 11,
        "symbol": shape if role == "held_in" else f"{shape}-open",
        "color": hue,
        "line": {"width": 1.8 if role == "generalization" else 0},
    }
