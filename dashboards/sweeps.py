"""Figures along options: scales, densities, thresholds, and all of them by index."""

from collections.abc import Callable, Sequence
from itertools import groupby

from plotly import graph_objects as go

from dashboards.figures import ACCURACIES, AXES
from dashboards.frame import (
    Row,
    Rows,
    empty_figure,
    error_bars,
    label_ends,
    padded,
)
from dashboards.palette import color, symbol, title

_MIDDLE = 5
"""Where methods without options stand, as in Realistic Evaluation, Tables 9 to 14."""

_LINE = 18  # pixels that a name at the end of a line takes


def scales(rows: Rows, role: str) -> go.Figure:
    """Draw every method's accuracy against its scale.

    Args:
        rows: of the question `scale_sweeps`.
        role: "held_in" or "generalization".

    Returns:
        The figure; a ring marks the scale that validation chose.
    """
    lines = [[*line] for _, line in groupby(rows, lambda row: row["method"])]
    return _lines(
        [line for line in lines if len(line) > 1],
        role,
        "scale",
        lambda row: title(row["method"]),
    )


def selection(rows: Rows, role: str) -> go.Figure:
    """Draw accuracy against density: the largest entries, and as many at random.

    Args:
        rows: of the question `selections`.
        role: "held_in" or "generalization".

    Returns:
        The figure; lines of random entries are broken.
    """

    def name(row: Row) -> str:
        what = "random" if row["selection"] == "random" else "largest"
        return f"{title(row['method'])}, {what}"

    lines = groupby(rows, lambda row: (row["method"], row["selection"]))
    return _lines(
        [[*line] for _, line in lines],
        role,
        "density",
        name,
        is_broken=lambda row: row["selection"] == "random",
    )


def thresholds(rows: Rows, role: str) -> go.Figure:
    """Draw the accuracy of consensus merging against its threshold.

    Args:
        rows: of the question `consensus_thresholds`.
        role: "held_in" or "generalization".

    Returns:
        The figure; dotted lines are the methods whose task vectors are pruned.
    """
    # In the colours of what is pruned: all of these are one method.
    drawn = [{**row, "method": row["merge_by"]} for row in rows]
    unpruned = {
        row["method"]: 100 * row[f"unpruned_{role}"]
        for row in drawn
        if row[f"unpruned_{role}"] is not None
    }
    figure = _lines(
        [[*line] for _, line in groupby(drawn, lambda row: row["method"])],
        role,
        "agreement",
        lambda row: f"of {title(row['method'])}",
        beside=[*unpruned.values()],
    )
    for method, accuracy in unpruned.items():
        dotted = {"color": color(method), "width": 1.5, "dash": "dot"}
        figure.add_hline(y=accuracy, line=dotted)
    figure.update_xaxes(title_text="number of tasks k")
    return figure


def indexed(rows: Rows, fixed: Rows, role: str) -> go.Figure:
    """Draw every method's accuracy against the index of its option's value.

    Args:
        rows: of the question `sensitivity`; of a method with several options, the one
            with the most values is drawn.
        fixed: the leaderboard's rows of methods without options.
        role: "held_in" or "generalization".

    Returns:
        The figure; a ring marks what validation chose, methods without options are
        lone points in the middle.
    """
    longest: dict[str, list[Row]] = {}
    for (method, _), group in groupby(rows, lambda row: (row["method"], row["option"])):
        line = [*group]
        if len(line) > len(longest.get(method, [])):
            longest[method] = line
    points = [
        {**row, "place": _MIDDLE, "is_chosen": False, "option": "", "value": ""}
        for row in fixed
    ]
    lines = [*longest.values(), *([point] for point in points)]
    figure = _lines(
        lines,
        role,
        "place",
        lambda row: title(row["method"]),
        hover=lambda row: f"{row['option']} {row['value']}",
    )
    figure.update_xaxes(title_text="index of the option's value")
    return figure


def _lines(
    lines: Sequence[Sequence[Row]],
    role: str,
    along: str,
    name: Callable[[Row], str],
    *,
    is_broken: Callable[[Row], bool] = lambda _row: False,
    hover: Callable[[Row], str] = lambda row: row["options"] or "",
    beside: Sequence[float] = (),  # what else the vertical axis has to reach
) -> go.Figure:
    axis = AXES[role]
    lines = [[row for row in line if row[role] is not None] for line in lines]
    lines = [line for line in lines if line]
    height = max(430, 90 + _LINE * len(lines))
    figure = empty_figure(along, f"{ACCURACIES[role]}, %", height=height)
    for line in lines:
        hue, broken = color(line[0]["method"]), is_broken(line[0])
        figure.add_scatter(
            x=[row[along] for row in line],
            y=[axis.value(row) for row in line],
            error_y=error_bars([axis.error(row) for row in line], hue),
            mode="lines+markers",
            line={"color": hue, "width": 2, "dash": "dash" if broken else "solid"},
            marker={
                "size": [12 if row.get("is_chosen") else 7 for row in line],
                "symbol": symbol(line[0]["method"]),
                "color": [
                    "white" if broken or row.get("is_chosen") else hue for row in line
                ],
                "line": {"color": hue, "width": 2},
                "opacity": 1,
            },
            customdata=[[hover(row)] for row in line],
            hovertemplate=f"{along} %{{x}}: %{{y:.1f}}%<br>%{{customdata[0]}}"
            f"<extra>{name(line[0])}</extra>",
        )
    drawn = [row for line in lines for row in line]
    if drawn:
        values = [*(axis.value(row) for row in drawn), *beside]
        errors = [*(axis.error(row) for row in drawn), *(0.0 for _ in beside)]
        low, high = padded(values, errors, 0.05)
        figure.update_yaxes(range=[low, high])
        label_ends(figure, [line[-1] for line in lines], axis, high - low, name=name)
    return figure
