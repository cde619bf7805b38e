"""Figures about storage: how much accuracy is kept for how many bytes."""

import math
from itertools import groupby

from plotly import graph_objects as go

from dashboards.frame import (
    Axis,
    Rows,
    empty_figure,
    label_ends,
    padded,
    scatter_points,
)
from dashboards.palette import color, faded, symbol, title
from mergegrid.sizes import show_size

KEPT = Axis("normalized")
MEASURES = {
    "bytes_of_experts": "bytes on disk",
    "bits_of_experts": "bits by the paper's formula",
}
"""Column to what it holds, for people."""

_TICKS = (1, 2, 5, 10, 20, 50, 100, 200)  # percent


def storage_against_accuracy(rows: Rows, column: str) -> go.Figure:
    """Draw the accuracy that is kept against the storage that it takes.

    Args:
        rows: of the question `storage`.
        column: a key of `MEASURES`.

    Returns:
        The figure. Small points are recipes that validation did not choose, joined to
        the chosen one of their method; of merges into one model, the best is named.
    """
    figure = empty_figure(
        f"storage, % of the experts' {MEASURES[column]}", "accuracy kept, %"
    )
    rows = [dict(row) for row in rows if row["normalized"] is not None]
    storage = Axis(column, is_log=True)
    chosen = [row for row in rows if row["is_chosen"]]
    if not chosen:
        return figure
    by_method = sorted(
        (row for row in rows if row["kind"] == "per_task"),
        key=lambda row: (row["method"], row[column]),
    )
    for method, group in groupby(by_method, key=lambda row: row["method"]):
        line = [*group]
        if len(line) == 1:
            continue
        figure.add_scatter(
            x=[storage.value(row) for row in line],
            y=[KEPT.value(row) for row in line],
            mode="lines+markers",
            line={"color": faded(color(method)), "width": 1},
            marker={"size": 5, "color": color(method)},
            customdata=[[row["options"], show_size(row["bytes"])] for row in line],
            hovertemplate="%{customdata[0]}<br>%{x:.3g}% (%{customdata[1]}): "
            f"%{{y:.1f}}%<extra>{title(method)}</extra>",
        )
    merges = [row for row in chosen if row["kind"] == "merged"]
    best = max(merges, key=KEPT.value, default=None)
    scatter_points(
        figure,
        # Hollow points are models that nothing was merged for.
        [
            row | {"kind": "merged"} if row["kind"] == "per_task" else row
            for row in chosen
        ],
        storage,
        KEPT,
        hover="%{x:.3g}% of the storage, %{y:.1f}% of the accuracy",
        front=sorted((row for row in chosen if row["on_front"]), key=storage.value)
        if column == "bytes_of_experts"
        else (),
        labelled=[row for row in chosen if row["kind"] != "merged" or row is best],
    )
    figure.update_xaxes(type="log", tickvals=_TICKS, ticktext=[*map(str, _TICKS)])
    drawn = [math.log10(storage.value(row)) for row in rows]
    figure.update_xaxes(range=padded(drawn, [0.0] * len(drawn), 0.16))
    kept = [KEPT.value(row) for row in rows]
    figure.update_yaxes(range=padded(kept, [0.0] * len(kept), 0.12))
    return figure


def storage_by_size(rows: Rows) -> go.Figure:
    """Draw what several tasks take to store against their number.

    Args:
        rows: of the question `storage_by_size`.

    Returns:
        The figure: solid as stored, dotted by the paper's formula.
    """
    figure = empty_figure("number of tasks", "storage, MB")
    stored, paper = Axis("bytes", factor=1e-6), Axis("paper_bytes", factor=1e-6)
    lines = [[*line] for _, line in groupby(rows, key=lambda row: row["method"])]
    if not lines:
        return figure
    for line in lines:
        method = line[0]["method"]
        name = "one model" if method == "pretrained" else title(method)
        for axis, dash in ((paper, "dot"), (stored, "solid")):
            figure.add_scatter(
                x=[row["size"] for row in line],
                y=[axis.value(row) for row in line],
                mode="lines+markers" if axis is stored else "lines",
                line={
                    "color": color(method),
                    "width": 2 if axis is stored else 1.5,
                    "dash": dash,
                },
                marker={"size": 7, "symbol": symbol(method)},
                hovertemplate=f"%{{x}} tasks: %{{y:.3g}} MB<extra>{name}</extra>",
            )
    every = [axis.value(row) for row in rows for axis in (stored, paper)]
    low, high = padded([0.0, *every], [0.0] * (len(every) + 1), 0.04)
    figure.update_yaxes(range=[low, high])
    label_ends(
        figure,
        [line[-1] for line in lines],
        stored,
        high - low,
        name=lambda row: (
            "one model" if row["method"] == "pretrained" else title(row["method"])
        ),
    )
    return figure
