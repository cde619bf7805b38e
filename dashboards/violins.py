"""Violins: how the entries of a task vector are spread, parameter by parameter."""

import math

import numpy as np
from plotly import graph_objects as go

from dashboards.frame import Row, Rows, empty_figure
from dashboards.palette import FAINT, KINDS, MUTED, faded
from dashboards.scientific import axis_name, power_of
from mergegrid.profiles.distribution import PER_MILLE

LEAST, MOST = PER_MILLE.index(5), PER_MILLE.index(995)
"""A violin reaches from one of these quantiles to the other, its line further."""

LOWER, UPPER = PER_MILLE.index(250), PER_MILLE.index(750)
"""The quartiles."""

QUARTILES_APART = 1.34
"""Standard deviations from one quartile of a normal distribution to the other."""

CORNERS = 41
"""Values at which the width of a violin is computed."""

REACH = 1.3
"""How far a figure reaches, in multiples of where its longest violin ends."""

FEW = 60
"""So many violins have room for medians and for lines between layers."""

MOST_TICKS = 24
"""Layers whose depth is written below."""

WIDTH = 0.42
"""Half the width of a violin at its widest, in distances between violins."""


def is_weight(row: Row) -> bool:
    """Tell a weight from biases and single numbers, which have no violins.

    Args:
        row: of the question `task_vectors`.

    Returns:
        Whether it is one.
    """
    return row["entries"] > 1 and not row["parameter"].endswith("bias")


def violins(rows: Rows, extent: float | None = None) -> go.Figure:
    """Draw how the entries of one expert's task vector are spread.

    Args:
        rows: of the question `task_vectors`, of one task, in the model's order.
        extent: how far violins reach in any figure that is to have the same scale.

    Returns:
        A violin for each weight, coloured by kind of layer: its width is the density of
        entries between the 0.5 % and the 99.5 % quantile. Lines reach to the least and
        the largest entry, or to the figure's end. A tick is at a layer's first weight.
    """
    shown = [row for row in rows if is_weight(row)]
    power = power_of(_furthest(shown) if extent is None else extent)
    factor = 10.0**-power
    figure = empty_figure("layer", axis_name("entries of the task vector", power))
    kinds = {row["layer_kind"] for row in shown}
    for kind, hue in KINDS.items():
        if kind not in kinds:
            continue
        placed = [(x, row) for x, row in enumerate(shown) if row["layer_kind"] == kind]
        across: list[float | None] = []
        up: list[float | None] = []
        for x, row in placed:
            for half, value in _outline(row, factor):
                across.append(x + half)
                up.append(value)
            across.append(None)
            up.append(None)
        figure.add_scatter(
            x=across,
            y=up,
            mode="lines",
            fill="toself",
            fillcolor=faded(hue),
            line={"color": hue, "width": 1},
            name=kind,
            hoverinfo="skip",
        )
        ends = [
            (factor * r["quantiles"][0], factor * r["quantiles"][-1], x)
            for x, r in placed
        ]
        figure.add_scatter(
            x=[at for _, _, x in ends for at in (x, x, None)],
            y=[at for low, high, _ in ends for at in (low, high, None)],
            mode="lines",
            line={"color": faded(hue), "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=[x for x, _ in placed],
            y=[factor * row["median"] for _, row in placed],
            mode="markers",
            marker={
                "color": "white" if len(shown) <= FEW else hue,
                "size": 5 if len(shown) <= FEW else 2,
                "line": {"color": hue, "width": 1.5},
            },
            customdata=[_said(row) for _, row in placed],
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
        )
    _mark_layers(figure, shown)
    if shown:
        reach = REACH * factor * (_furthest(shown) if extent is None else extent)
        figure.update_yaxes(range=[-reach, reach])
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        margin={"t": 36},
    )
    return figure


def extent_of(rows: Rows) -> float:
    """Find how far violins reach from zero.

    Args:
        rows: of the question `task_vectors`, of any tasks.

    Returns:
        The magnitude.
    """
    return _furthest([row for row in rows if is_weight(row)])


def _furthest(shown: Rows) -> float:
    ends = (abs(row["quantiles"][at]) for row in shown for at in (LEAST, MOST))
    return max(ends, default=0.0)


def _outline(row: Row, factor: float) -> list[tuple[float, float]]:
    """Give the corners of a violin about 0: distance to the right, and value.

    Between quantiles entries count as evenly spread. The density at a value is the
    fraction of them that is no further away than a bandwidth h, over 2h, where
    h = 0.9 min(standard deviation, interquartile range / 1.34) n^(-1/5), as Silverman
    advises (Density Estimation, 1986, eq. 3.31).
    """
    quantiles = factor * np.asarray(row["quantiles"])
    values = np.linspace(quantiles[LEAST], quantiles[MOST], CORNERS)
    spread = (quantiles[UPPER] - quantiles[LOWER]) / QUARTILES_APART
    spread = min(factor * row["deviation"], spread) or factor * row["deviation"]
    reach = 0.9 * spread * row["entries"] ** -0.2
    if not reach:  # all of them equal
        return [(WIDTH, values[0]), (-WIDTH, values[0])]
    levels = np.asarray(PER_MILLE)
    above = np.interp(values + reach, quantiles, levels, right=PER_MILLE[-1])
    below = np.interp(values - reach, quantiles, levels, left=PER_MILLE[0])
    density = above - below
    halves = WIDTH * density / density.max()
    right = [*zip(halves.tolist(), values.tolist(), strict=True)]
    right = [(0.0, right[0][1]), *right, (0.0, right[-1][1])]
    return right + [(-half, value) for half, value in reversed(right)]


def _mark_layers(figure: go.Figure, shown: Rows) -> None:
    """Write depths below the first weights of layers, and part the layers."""
    depths = [-1 if row["depth"] is None else row["depth"] for row in shown]
    begins = [
        x for x in range(len(depths)) if x == 0 or depths[x] != depths[x - 1]
    ]  # layers, and what is outside them
    firsts = [x for x in begins if depths[x] >= 0]
    every = math.ceil(len(firsts) / MOST_TICKS)
    ticks = [x for x in firsts if depths[x] % max(every, 1) == 0]
    # Among very many, what parts encoder and decoder is enough.
    parted = [
        x
        for x in begins[1:]
        if len(shown) <= FEW or depths[x] != depths[x - 1] + 1 or depths[x] == 0
    ]
    for x in parted:
        figure.add_vline(x=x - 0.5, line={"color": FAINT, "width": 1, "dash": "dot"})
    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, layer="below")
    figure.update_xaxes(
        tickvals=ticks,
        ticktext=[str(depths[x]) for x in ticks],
        tickangle=0,
        range=[-0.7, max(len(shown) - 0.3, 1)],
        showgrid=False,
    )


def _said(row: Row) -> str:
    return (
        f"{row['parameter']}<br>{row['entries']:,} entries, norm {row['norm']:.3g}, "
        f"standard deviation {row['deviation']:.3g}"
    )
