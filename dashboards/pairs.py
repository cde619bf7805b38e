"""Figures about two methods at a time: is one better on tasks drawn anew?"""

from collections.abc import Sequence

from plotly import graph_objects as go

from dashboards.frame import Row, Rows, empty_figure
from dashboards.heat import MOST_WRITTEN
from dashboards.palette import DIVERGING, INK, MUTED, color, title

_SCALE = [*zip((0, 0.5, 1), DIVERGING, strict=True)]
_BINS = 40
_NAMES = {"held_in": "held-in", "generalization": "generalization"}


def ahead(rows: Rows, role: str) -> go.Figure:
    """Draw how often each method is ahead of each other one.

    Args:
        rows: of the question `bootstrap`, best method first.
        role: "held_in" or "generalization".

    Returns:
        A heat map, methods by methods.
    """
    shown = [row for row in rows if row["role"] == role]
    methods = list(dict.fromkeys(row["method"] for row in shown))
    names = [title(method) for method in methods]
    found = {(row["method"], row["other"]): row for row in shown}
    # Names stand at 45 degrees, a letter some 5 pixels high.
    above = max(116, 20 + 5 * max(map(len, names), default=0))
    figure = empty_figure("", "", height=34 + above + 26 * len(methods))
    lines = [[found.get((one, other)) for other in methods] for one in methods]
    figure.add_heatmap(
        z=[[None if r is None else 100 * r["ahead"] for r in line] for line in lines],
        x=names,
        y=names,
        customdata=[
            [
                ["", ""]
                if r is None
                else [
                    f"{100 * r['difference']:+.1f}",
                    f"{100 * r['low']:+.1f} to {100 * r['high']:+.1f}",
                ]
                for r in line
            ]
            for line in lines
        ],
        texttemplate="%{z:.0f}" if len(methods) <= MOST_WRITTEN else None,
        textfont={"size": 11, "color": INK},
        colorscale=_SCALE,
        zmin=0,
        zmax=100,
        xgap=2,
        ygap=2,
        showscale=False,
        hoverongaps=False,
        hovertemplate="%{y} ahead of %{x}: %{z:.1f}%<br>%{customdata[0]} points, 95%: "
        "%{customdata[1]}<extra></extra>",
    )
    figure.update_xaxes(side="top", tickangle=-45, showgrid=False, ticks="", dtick=1)
    figure.update_yaxes(
        autorange="reversed", showgrid=False, ticks="", automargin=True, dtick=1
    )
    figure.update_layout(margin={"t": above, "b": 4, "l": 10, "r": 64})
    return figure


def said(row: Row) -> str:
    """Say how two methods compare.

    Args:
        row: of the question `bootstrap`.

    Returns:
        A sentence.
    """
    low, high = 100 * row["low"], 100 * row["high"]
    return (
        f"{100 * row['difference']:+.2f} points over {row['tasks']} "
        f"{_NAMES[row['role']]} tasks, 95% interval {low:+.2f} to {high:+.2f}; "
        f"{title(row['method'])} is ahead in {100 * row['ahead']:.1f}% of the draws."
    )


def differences(values: Sequence[float], row: Row) -> go.Figure:
    """Draw how the difference of two methods is spread over tasks drawn anew.

    Args:
        values: the difference in each replicate, in fractions.
        row: of the question `bootstrap`, about the two methods.

    Returns:
        A histogram with the 95 % interval as a bar below it.
    """
    points = [100 * value for value in values]
    named = f"{title(row['method'])} - {title(row['other'])}, points"
    figure = empty_figure(named, "draws", height=300)
    ends = min(points, default=0), max(points, default=0)
    figure.add_histogram(
        x=points,
        autobinx=False,
        xbins={"start": ends[0], "size": max(ends[1] - ends[0], 1) / _BINS},
        marker={"color": color(row["method"]), "line": {"color": "white", "width": 1}},
        hovertemplate="%{x} points: %{y} draws<extra></extra>",
    )
    figure.add_vline(x=0, line={"color": MUTED, "width": 1.5, "dash": "dash"})
    figure.add_scatter(
        x=[100 * row["low"], 100 * row["high"]],
        y=[0, 0],
        mode="lines",
        line={"color": INK, "width": 5},
        hovertemplate="95% interval: %{x:+.2f}<extra></extra>",
    )
    low, high = min(ends[0], 0) - 0.5, max(ends[1], 0) + 0.5
    figure.update_xaxes(range=[low, high])
    return figure
