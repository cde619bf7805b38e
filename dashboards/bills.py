"""Figures about costs: what merges cost, and who shares what they need."""

import math
from collections.abc import Sequence

from plotly import graph_objects as go

from dashboards.figures import ACCURACIES, AXES
from dashboards.frame import Axis, Rows, empty_figure, scatter_points
from dashboards.palette import LOOKS, STAGES, color, stage_color, stage_title, title
from dashboards.text import duration, quantity

_MOST_TICKS = 6
_FEW_DECADES = 2
_CHARACTER = 6.8  # pixels, at 11 px
_WIDTH = 520.0  # pixels of a whole bar, at the least


def cost_against_accuracy(rows: Rows, role: str) -> go.Figure:
    """Draw accuracy against the operations that statistics and merge took.

    Args:
        rows: of the question `costs`.
        role: "held_in" or "generalization".

    Returns:
        The figure, with the front of the cheapest merges for their accuracy.
    """
    flops = Axis("total_flops", factor=1, is_log=True)
    figure, decades = _against(rows, role, flops, "FLOPs", f"on_{role}_cost_front")
    names = [quantity(decade) for decade in decades]
    figure.update_xaxes(tickvals=decades, ticktext=names)
    return figure


def time_against_accuracy(rows: Rows, role: str) -> go.Figure:
    """Draw accuracy against the seconds that statistics and merge took.

    Args:
        rows: of the question `costs`.
        role: "held_in" or "generalization".

    Returns:
        The figure, with the front of the fastest merges for their accuracy.
    """
    seconds = Axis("total_seconds", factor=1, is_log=True)
    figure, decades = _against(rows, role, seconds, "s", f"on_{role}_time_front")
    names = [f"{decade:g}" for decade in decades]
    figure.update_xaxes(tickvals=decades, ticktext=names)
    return figure


def memory(rows: Rows) -> go.Figure:
    """Draw the most memory that each method's merge and statistics took.

    Args:
        rows: of the question `memory_peaks`.

    Returns:
        A bar for each stage of each method, those of a method together.
    """
    peak = Axis("peak_memory", factor=1e-6)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    ordered = sorted(rows, key=lambda row: methods.index(row["method"]))
    figure = empty_figure("peak memory, MB", "", height=70 + 24 * len(rows))
    figure.add_bar(
        y=[f"{title(row['method'])}, {stage_title(row['stage'])}" for row in ordered],
        x=[peak.value(row) for row in ordered],
        orientation="h",
        marker={"color": [stage_color(row["stage"]) for row in ordered]},
        hovertemplate="%{y}: %{x:,.0f} MB<extra></extra>",
    )
    figure.update_layout(bargap=0.35, margin={"l": 10})
    figure.update_yaxes(
        autorange="reversed", showgrid=False, automargin=True, ticks="", dtick=1
    )
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
    figure = empty_figure("amortized time, s", "", height=120 + 26 * len(order))
    for stage in names:
        figure.add_bar(
            y=[title(method) for method in order],
            x=[values.get((method, stage), 0) for method in order],
            orientation="h",
            name=stage_title(stage),
            marker={"color": stage_color(stage)},
            hovertemplate="%{x:.3g} s<extra>" + stage_title(stage) + "</extra>",
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


def sharing(rows: Rows) -> go.Figure:
    """Draw how the cost of each prerequisite is divided among those that need it.

    Args:
        rows: of the question of this name.

    Returns:
        Stacked bars, a bar for each stage, a part for each method; what the stage cost
        in all is written beside its name.
    """
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["stage"]] = totals.get(row["stage"], 0) + (row["seconds"] or 0)
    order = sorted(totals, key=lambda stage: -totals[stage])
    names = {
        stage: f"{stage_title(stage)}, {duration(totals[stage])}" for stage in order
    }
    figure = empty_figure("share of its cost, %", "", height=96 + 34 * len(order))
    methods = list(dict.fromkeys([*LOOKS, *(row["method"] for row in rows)]))
    parts = {(row["method"], row["stage"]): row for row in rows if row["seconds"]}
    for method in methods:
        own = [parts[method, stage] for stage in order if (method, stage) in parts]
        if not own:
            continue
        figure.add_bar(
            y=[names[row["stage"]] for row in own],
            x=[100 * row["seconds"] / totals[row["stage"]] for row in own],
            orientation="h",
            marker={"color": color(method), "line": {"color": "white", "width": 1}},
            text=[
                _fitting(title(method), row["seconds"] / totals[row["stage"]])
                for row in own
            ],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            insidetextfont={"size": 11, "color": "white"},
            customdata=[[duration(row["seconds"]), row["cells"]] for row in own],
            hovertemplate="%{x:.1f}%: %{customdata[0]} for %{customdata[1]} models"
            f"<extra>{title(method)}</extra>",
        )
    figure.update_layout(
        barmode="stack",
        bargap=0.3,
        margin={"l": 10},
    )
    figure.update_xaxes(range=[0, 100])
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=[names[stage] for stage in reversed(order)],
        showgrid=False,
        automargin=True,
        ticks="",
    )
    return figure


def _against(
    rows: Rows, role: str, cost: Axis, unit: str, front: str
) -> tuple[go.Figure, list[float]]:
    # A figure, and the powers of ten to write below it.
    figure = empty_figure(f"statistics + merge, {unit}", f"{ACCURACIES[role]}, %")
    shown = [row for row in rows if row[cost.column] and row[role] is not None]
    ahead = sorted((row for row in shown if row[front]), key=cost.value)
    hover = "%{x:.3s}" + f"{unit}, " + "%{y:.1f}%"
    scatter_points(figure, shown, cost, AXES[role], hover=hover, front=ahead)
    if not shown:
        return figure, []
    figure.update_xaxes(type="log")
    return figure, _decades([cost.value(row) for row in shown])


def _decades(values: Sequence[float]) -> list[float]:
    # Powers of ten; on less than two of them, also twice and five times as much.
    low, high = (math.log10(end) for end in (min(values), max(values)))
    step = max(1, math.ceil((high - low) / _MOST_TICKS))
    powers = range(math.floor(low), math.ceil(high) + 1, step)
    parts = (1, 2, 5) if high - low < _FEW_DECADES else (1,)
    return [part * 10.0**power for power in powers for part in parts]


def _fitting(text: str, share: float) -> str:
    return text if len(text) * _CHARACTER < share * _WIDTH else ""
