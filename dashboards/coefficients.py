"""Heat maps of learned coefficients: what of each expert is merged, and where."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from plotly import graph_objects as go

from dashboards.columns import (
    OUTSIDE,
    by_expert,
    column_name,
    columns_of,
    depth_name,
    depths_of,
)
from dashboards.frame import Rows, empty_figure
from dashboards.palette import DIVERGING, FAINT, KINDS, MUTED, color, faded, title

MOST_NAMED = 30
"""With more experts than this, only some of them are named beside a heat map."""

MOST_DEPTHS = 9
"""With more layers than this, only some of them are numbered."""

_SCALE = [*zip((0, 0.5, 1), DIVERGING, strict=True)]


def extent_of(rows: Rows) -> float:
    """Find where the colours of coefficients end.

    Args:
        rows: of the question `coefficients`, of any methods.

    Returns:
        The largest magnitude, but 1 at the most, the bound of SuperMerge's: without a
        bound, a few would make all others pale.
    """
    return min(max((abs(row["value"]) for row in rows), default=1.0), 1.0)


def by_parameter(rows: Rows, extent: float) -> go.Figure:
    """Draw one method's coefficients, experts by parameters in the model's order.

    Args:
        rows: of the question `coefficients`, of one method.
        extent: from `extent_of`, for a common scale.

    Returns:
        A heat map as in SuperMerge's Fig. 5a; with many parameters, of means over
        layers. A tick is at the first column of each layer.
    """
    experts = sorted({row["task"] for row in rows})
    columns = columns_of(rows)
    figure = empty_figure("layer", "", height=_height(experts, 96))
    cells = [by_expert(column) for column in columns]
    names = [column_name(column) for column in columns]
    means, said = _grid(experts, cells, names)
    figure.add_heatmap(
        z=means,
        y=experts,
        customdata=said,
        colorbar=_colorbar(),
        **_look(extent),
    )
    depths = [(column[0]["depth"], column[0]["layers"]) for column in columns]
    firsts = [
        at
        for at, layer in enumerate(depths)
        if layer[0] is not None and (at == 0 or depths[at - 1] != layer)
    ]
    for at in [at for at in range(1, len(depths)) if depths[at - 1] != depths[at]]:
        figure.add_vline(x=at - 0.5, line={"color": FAINT, "width": 1})
    step = _step(max((layers or 0 for _, layers in depths), default=0), MOST_DEPTHS)
    named = [at for at in firsts if (depths[at][0] or 0) % step == 0]
    figure.update_xaxes(
        tickvals=named,
        ticktext=[str(depths[at][0]) for at in named],
        tickangle=0,
        range=[-0.5, max(len(columns), 1) - 0.5],
        showgrid=False,
    )
    _name_experts(figure, experts)
    figure.update_layout(margin={"t": 8, "b": 44, "l": 10, "r": 10})
    return figure


def by_kind(rows: Rows, extent: float) -> go.Figure:
    """Draw one method's coefficients, experts by depth, a panel for each kind of layer.

    Args:
        rows: of the question `coefficients`, of one method.
        extent: from `extent_of`, for a common scale.

    Returns:
        Heat maps as in SuperMerge's Fig. 5b, of means over the parameters of a kind at
        a depth.
    """
    experts = sorted({row["task"] for row in rows})
    figure = empty_figure("", "", height=_height(experts, 104))
    kinds = [kind for kind in KINDS if any(row["layer_kind"] == kind for row in rows)]
    if not kinds:
        return figure
    panels = [depths_of([row for row in rows if row["layer_kind"] == k]) for k in kinds]
    # A panel of one column has room for its name.
    widths = [max(len(panel), 4) for panel in panels]
    figure.set_subplots(
        rows=1,
        cols=len(kinds),
        shared_yaxes=True,
        horizontal_spacing=0.015,
        column_widths=widths,
        subplot_titles=kinds,
    )
    for place, panel in enumerate(panels, start=1):
        cells = [by_expert(column) for column in panel.values()]
        names = [depth_name(column) for column in panel.values()]
        means, said = _grid(experts, cells, names)
        figure.add_heatmap(
            z=means,
            x=[*panel],
            y=experts,
            customdata=said,
            colorbar=_colorbar(),
            showscale=place == len(kinds),
            row=1,
            col=place,
            **_look(extent),
        )
        step = _step(len(panel), MOST_DEPTHS)
        named = [depth for depth in panel if depth == OUTSIDE or int(depth) % step == 0]
        figure.update_xaxes(tickvals=named, row=1, col=place)
    figure.update_xaxes(
        type="category",
        tickangle=0,
        showgrid=False,
        fixedrange=True,
        ticks="",
        tickfont={"size": 11, "color": MUTED},
    )
    figure.update_annotations(font={"size": 12, "color": MUTED})
    figure.update_yaxes(fixedrange=True, tickfont={"size": 12, "color": MUTED})
    _name_experts(figure, experts)
    figure.update_layout(margin={"t": 28, "b": 34, "l": 10, "r": 10})
    return figure


def spread(rows: Rows) -> go.Figure:
    """Draw how each method's coefficients are spread.

    Args:
        rows: of the question `coefficients`.

    Returns:
        A violin for each method, with the quartiles of all its coefficients.
    """
    figure = empty_figure("", "coefficient", height=360)
    for method, group in groupby(rows, key=lambda row: row["method"]):
        hue = color(method)
        figure.add_violin(
            y=[round(row["value"], 4) for row in group],
            name=title(method),
            line={"color": hue, "width": 1.5},
            fillcolor=faded(hue),
            box={"visible": True, "width": 0.12},
            points=False,
            spanmode="hard",
            scalemode="width",
            hoverinfo="skip",
        )
    figure.add_hline(y=0, line={"color": MUTED, "width": 1}, layer="below")
    for bound in (-1, 1):
        line = {"color": MUTED, "width": 1, "dash": "dot"}
        figure.add_hline(y=bound, line=line, layer="below")
    figure.update_xaxes(showgrid=False, ticks="", automargin=True)
    return figure


def _grid(
    experts: Sequence[str], cells: Sequence[Mapping[str, float]], names: Sequence[str]
) -> tuple[list[list[float | None]], list[list[str]]]:
    """Lay out values, and what is said of each: experts by columns."""
    means = [[column.get(expert) for column in cells] for expert in experts]
    said = [
        [
            "" if value is None else f"{name}<br>{expert}: {value:.3f}"
            for value, name in zip(line, names, strict=True)
        ]
        for expert, line in zip(experts, means, strict=True)
    ]
    return means, said


def _height(experts: Sequence[str], margins: int) -> int:
    line = 20 if len(experts) <= MOST_NAMED else 12
    return margins + line * max(len(experts), 4)


def _step(count: int, most: int) -> int:
    """Choose every how many of some to name, so that at most so many are named."""
    return max(math.ceil(count / most), 1)


def _name_experts(figure: go.Figure, experts: Sequence[str]) -> None:
    step = _step(len(experts), MOST_NAMED)
    figure.update_yaxes(
        autorange="reversed",
        showgrid=False,
        ticks="",
        automargin=True,
        tickvals=[*experts[::step]],
    )


def _look(extent: float) -> dict[str, object]:
    return {
        "colorscale": _SCALE,
        "zmin": -extent,
        "zmax": extent,
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _colorbar() -> dict[str, object]:
    return {"thickness": 10, "outlinewidth": 0, "nticks": 5, "tickfont": {"size": 11}}
