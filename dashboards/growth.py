"""Figures about experts that are merged in one after another."""

from itertools import groupby

from plotly import graph_objects as go

from dashboards.frame import Axis, Rows, empty_figure, error_bars, padded
from dashboards.palette import MUTED, color, symbol, title

ACCURACY = Axis("accuracy")


def panels(rows: Rows) -> list[Rows]:
    """Choose what small figures to draw: tasks of one order, or one task of each.

    Args:
        rows: of the question `incremental`.

    Returns:
        The rows of each figure. With one order of experts, a figure for each of its
        tasks; with several, one for the task that each begins with (the reproduction
        study of TIES, Fig. 2).
    """
    several = len({row["series"] for row in rows}) > 1
    chosen = [row for row in rows if not several or row["place"] == 1]
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


def lines_of(panel: Rows) -> list[Rows]:
    """Divide the rows of a small figure into its lines.

    Args:
        panel: its rows, by method and size.

    Returns:
        The rows of each method that was merged at two sizes or more.
    """
    lines = [[*line] for _, line in groupby(panel, lambda row: row["method"])]
    return [line for line in lines if len(line) > 1]


def incremental(rows: Rows) -> go.Figure:
    """Draw the accuracy on one expert's task as others are merged with it.

    Args:
        rows: of the question `incremental` about one task of one order, by method and
            size.

    Returns:
        The figure, a line for each method; the dotted line is the expert by itself.
    """
    figure = empty_figure("number of experts merged", "accuracy, %", height=256)
    lines = lines_of(rows)
    for line in lines:
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
        drawn = [row for line in lines for row in line]
        values = [*(ACCURACY.value(row) for row in drawn), alone]
        errors = [*(ACCURACY.error(row) for row in drawn), 0.0]
        low, high = padded(values, errors, 0.05)
        figure.update_yaxes(range=[low, high])
    figure.update_xaxes(nticks=7)
    figure.update_layout(margin={"t": 8, "b": 44, "l": 50, "r": 10})
    return figure
