"""What figures have in common: axes, points with error bars, fronts and labels."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from plotly import graph_objects as go

from dashboards.labels import place_labels
from dashboards.palette import (
    FAINT,
    FRONT,
    GRID,
    INK,
    MUTED,
    color,
    faded,
    legible,
    symbol,
    title,
)

Row: TypeAlias = Mapping[str, Any]
"""A row by the names of its columns."""

Rows: TypeAlias = Sequence[Row]

FONT = "'Segoe UI', system-ui, -apple-system, 'Helvetica Neue', Arial, sans-serif"
_WIDTH = 310.0  # pixels between the axes of a narrow figure
_LETTER = 6.6  # pixels, at 12 px


@dataclass(frozen=True)
class Axis:
    """A column and how it is drawn."""

    column: str
    """The values; the column with "_se" added, if there is one, holds their errors."""

    factor: float = 100
    """Values are multiplied by it; fractions become percent."""

    is_log: bool = False
    """Whether the scale is logarithmic."""

    def value(self, row: Row) -> float:
        """Give a value as it is drawn.

        Args:
            row: it is in this row.

        Returns:
            The value in the axis' unit.
        """
        return self.factor * row[self.column]

    def error(self, row: Row) -> float:
        """Give a value's standard error.

        Args:
            row: it is in this row.

        Returns:
            The error in the axis' unit; 0 where none is known.
        """
        return self.factor * (row.get(f"{self.column}_se") or 0)

    def place(self, value: float) -> float:
        """Give a value in plotly's coordinates.

        Args:
            value: in the axis' unit.

        Returns:
            The logarithm on a logarithmic axis, else the value.
        """
        return math.log10(value) if self.is_log else value


HELD_IN = Axis("held_in")
GENERALIZATION = Axis("generalization")


def empty_figure(x: str, y: str, height: int = 430) -> go.Figure:
    """Make axes without anything in them.

    Args:
        x: name of the horizontal axis.
        y: name of the vertical axis.
        height: in pixels; the width is the page's.

    Returns:
        A figure that cannot be zoomed, so that it scrolls with the page.
    """
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": FAINT,
        "ticks": "outside",
        "tickcolor": FAINT,
        "ticklen": 4,
        "tickfont": {"size": 12, "color": MUTED},
        "title": {"font": {"size": 13, "color": MUTED}, "standoff": 8},
        "fixedrange": True,
    }
    figure = go.Figure()
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 12, "color": INK},
        height=height,
        margin={"l": 54, "r": 16, "t": 12, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=False,
        hoverlabel={"font": {"family": FONT, "size": 12}},
        xaxis=axis,
        yaxis=axis,
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def layout_of(figure: go.Figure) -> dict[str, Any]:
    """Read a figure's layout.

    Args:
        figure: the figure.

    Returns:
        What was set of it.
    """
    return cast("dict[str, Any]", figure.to_dict()["layout"])


def error_bars(values: Iterable[float], hue: str) -> dict[str, Any]:
    """Describe thin, pale error bars.

    Args:
        values: their lengths to either side.
        hue: their colour.

    Returns:
        plotly's description.
    """
    return {
        "type": "data",
        "array": list(values),
        "thickness": 1,
        "width": 0,
        "color": faded(hue),
    }


def scatter_points(
    figure: go.Figure,
    rows: Rows,
    x: Axis,
    y: Axis,
    *,
    hover: str,
    front: Rows = (),
    labelled: Rows | None = None,
) -> None:
    """Draw a point for each row, and what is on the front.

    Args:
        figure: empty axes.
        rows: with columns method, and kind where not all are merges.
        x: the horizontal axis.
        y: the vertical axis.
        hover: text of a hover label; `%{x}` and `%{y}` are the values.
        front: the rows on the front, from left to right.
        labelled: the rows whose points get a label; None for all.
    """
    if not rows:
        return
    figure.add_scatter(
        x=[x.value(row) for row in front],
        y=[y.value(row) for row in front],
        mode="lines",
        line={"color": FRONT, "width": 7, "shape": "hv" if x.is_log else "linear"},
        hoverinfo="skip",
    )
    for row in rows:
        hue = color(row["method"])
        merged = row.get("kind", "merged") == "merged"
        figure.add_scatter(
            x=[x.value(row)],
            y=[y.value(row)],
            error_x=error_bars([x.error(row)], hue) if x.error(row) else None,
            error_y=error_bars([y.error(row)], hue) if y.error(row) else None,
            mode="markers",
            marker={
                "size": 12,
                "color": hue if merged else "white",
                "symbol": symbol(row["method"]),
                "line": {"color": "white" if merged else hue, "width": 1.5},
            },
            hovertemplate=f"{row.get('options') or ''}<br>{hover}"
            f"<extra>{title(row['method'])}</extra>",
        )
    across = padded([x.place(x.value(row)) for row in rows], [0.0] * len(rows), 0.16)
    down = padded([y.value(row) for row in rows], [y.error(row) for row in rows], 0.12)
    figure.update_xaxes(range=across)
    figure.update_yaxes(range=down)
    _label_points(figure, rows if labelled is None else labelled, x, y)


def padded(
    values: Sequence[float], errors: Sequence[float], share: float
) -> tuple[float, float]:
    """Find the range of an axis.

    Args:
        values: what is drawn.
        errors: how far its error bars reach.
        share: room at either end, as a fraction of the range.

    Returns:
        The range's ends.
    """
    low = min(value - error for value, error in zip(values, errors, strict=True))
    high = max(value + error for value, error in zip(values, errors, strict=True))
    room = share * ((high - low) or 1)
    return low - room, high + room


def label_ends(
    figure: go.Figure,
    ends: Rows,
    y: Axis,
    span: float,
    *,
    name: Callable[[Row], str] = lambda row: title(row["method"]),
) -> None:
    """Write lines' names at their right ends, moved apart where they are close.

    Args:
        figure: the lines.
        ends: the last row of each.
        y: the vertical axis.
        span: its length in its unit.
        name: gives the name of a line, if it is not that of its method.
    """
    step = span * 15 / 350  # a line of text
    ordered = sorted(ends, key=y.value)
    places = [y.value(row) for row in ordered]
    for _ in range(100):  # push neighbours apart until none are too close
        for index in range(len(places) - 1):
            lacking = step - (places[index + 1] - places[index])
            if lacking > 0:
                places[index] -= lacking / 2
                places[index + 1] += lacking / 2
    for row, place in zip(ordered, places, strict=True):
        figure.add_annotation(
            x=1,
            xref="paper",
            y=place,
            text=name(row),
            showarrow=False,
            xanchor="left",
            xshift=4,
            font={"size": 12, "color": legible(color(row["method"]))},
        )
    longest = max((len(name(row)) for row in ends), default=0)
    figure.update_layout(margin={"r": max(128, 12 + math.ceil(_LETTER * longest))})


def _label_points(figure: go.Figure, rows: Rows, x: Axis, y: Axis) -> None:
    layout = layout_of(figure)
    left, right = layout["xaxis"]["range"]
    low, high = layout["yaxis"]["range"]
    margin = layout["margin"]
    width, height = _WIDTH, layout["height"] - margin["t"] - margin["b"]
    places = [(x.place(x.value(row)), y.value(row)) for row in rows]
    pixels = [
        ((a - left) / (right - left) * width, (high - b) / (high - low) * height)
        for a, b in places
    ]
    texts = [title(row["method"]) for row in rows]
    offsets = place_labels(pixels, texts, width, height)
    for row, (a, b), text, (right, below) in zip(
        rows, places, texts, offsets, strict=True
    ):
        figure.add_annotation(
            x=a,
            y=b,
            text=text,
            ax=right,
            ay=below,
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=FAINT,
            standoff=7,
            font={"size": 12, "color": legible(color(row["method"]))},
        )
