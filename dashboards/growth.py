"""Figures about experts that are merged in one after another."""

import math
from itertools import groupby

from plotly import graph_objects as go

from dashboards.frame import Axis, Rows, empty_figure, error_bars, padded
from dashboards.palette import MUTED, color, symbol, title

ACCURACY = Axis("accuracy")
_MOST_TICKS = 8


def panels(rows: Rows) -> list[Rows]:
    """Choose what small figures to draw: tasks of one order, or one task of each.

    Args:
        rows: of the question `incremental`.

    Returns:
        The rows of each figure, of methods that were merged at two sizes or more. With
        one order of experts, a figure for each of its tasks; with several, one for the
        task that each begins with (the reproduction study of TIES, Fig. 2).
    """
    several = len({row["series"] for row in rows}) > 1
    sizes: dict[tuple[int, str], set[int]] = {}
    for row in rows:
        sizes.setdefault((row["series"], row["method"]), set()).add(row["size"])
    chosen = [
        row
        for row in rows
        if len(sizes[row["series"], row["method"]]) > 1
        and (row["place"] == 1 or not several)
    ]
    return [
        [*panel]
        for _, panel in groupby(chosen, lambda row: (row["series"], row["place"]))
    ]


def said(panel: Rows) -> str:
    """Say which order of experts a small figure is about.

    Args:
        panel: its rows.

    Returns:
        Text such as "merged with b/2, then c/3, d/1".
    """
    task = panel[0]["task"]
    first, *others = [one for one in panel[0]["merged_in"] if one != task]
    return f"merged with {first}" + (f", then {', '.join(others)}" if others else "")


def incremental(rows: Rows) -> go.Figure:
    """Draw the accuracy on one expert's task as others are merged with it.

    Args:
        rows: of the question `incremental` about one task of one order, by method and
            size.

    Returns:
        The figure, a line for each method; the dotted line is the expert by itself.
    """
    figure = empty_figure("number of experts merged", "accuracy, %", height=256)
    for line in ([*group] for _, group in groupby(rows, lambda row: row["method"])):
        hue = color(line[0]["method"])
        figure.add_scatter(
            x=[row["size"] for row in line],
            y=[ACCURACY.value(row) for row in line],
            error_y=error_bars([ACCURACY.error(row) for row in line], hue),
            mode="lines+markers",
            line={"color": hue, "width": 2},
            marker={"size": 7, "symbol": symbol(line[0]["method"])},
            hovertemplate="%{x} experts: %{y:.1f}%"
            f"<extra>{title(line[0]['method'])}</extra>",
        )
    if rows:
        alone = 100 * rows[0]["individual"]
        figure.add_hline(y=alone, line={"color": MUTED, "width": 1.5, "dash": "dot"})
        values = [*(ACCURACY.value(row) for row in rows), alone]
        errors = [*(ACCURACY.error(row) for row in rows), 0.0]
        low, high = padded(values, errors, 0.05)
        figure.update_yaxes(range=[low, high])
        most = max(row["size"] for row in rows)
        few, many = padded([2, most], [0.0, 0.0], 0.06)
        figure.update_xaxes(range=[few, many], dtick=math.ceil(most / _MOST_TICKS))
    figure.update_layout(margin={"t": 8, "b": 44, "l": 50, "r": 10})
    return figure
