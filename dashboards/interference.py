"""Figures about where task vectors are in one another's way, and what masks select."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean, stdev

from plotly import graph_objects as go

from dashboards.frame import Row, Rows, empty_figure, error_bars
from dashboards.palette import LEVELS, MERGINGS, MUTED, SEQUENTIAL, color, symbol, title
from dashboards.scientific import axis_name, power_of

GROUPINGS = {
    "kept_by": "experts that keep an entry",
    "agreement": "agreement in sign, %",
}
"""What entries are grouped by to what it is called on an axis."""

MEASURES = {
    "mean": "mean magnitude",
    "deviation": "standard deviation",
}
"""Column to what it holds, of the magnitudes of merged entries."""

CALLED = {
    "average": "averaged",
    "trimmed": "trimmed",
    "elected": "signs elected",
    "both": "both: TIES",
}
"""Kind of merging to what it is called in legends."""

_PERCENT = 100


def conflicts_by_size(rows: Rows) -> go.Figure:
    """Draw sign conflicts against the number of experts, a line for each density.

    Args:
        rows: of the question `conflicts`.

    Returns:
        The figure; bars are the standard deviation between samples of so many experts.
        Densities that were looked at for one number alone have no line.
    """
    figure = empty_figure("number of experts", "entries with a sign conflict, %")
    sizes: dict[float, set[int]] = {}
    for row in rows:
        sizes.setdefault(row["density"], set()).add(row["size"])
    densities = sorted((d for d in sizes if len(sizes[d]) > 1), reverse=True)
    for density, hue in zip(densities, _shades(len(densities)), strict=True):
        line = [row for row in rows if row["density"] == density]
        line.sort(key=lambda row: row["size"])
        samples = {
            size: [_PERCENT * row["conflicting"] for row in alike]
            for size, alike in groupby(line, key=lambda row: row["size"])
        }
        means = {size: fmean(values) for size, values in samples.items()}
        spreads = [stdev(v) if len(v) > 1 else 0.0 for v in samples.values()]
        figure.add_scatter(
            x=[*means],
            y=[*means.values()],
            error_y=error_bars(spreads, hue),
            mode="lines+markers",
            line={"color": hue, "width": 2.2},
            marker={"color": hue, "size": 8},
            name=_density(density),
            customdata=[len(values) for values in samples.values()],
            hovertemplate="%{x} experts: %{y:.1f}%, %{customdata} samples"
            f"<extra>{_density(density)}</extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(dtick=_step([row["size"] for row in rows]))
    return _with_legend(figure)


def conflicts_by_density(rows: Rows) -> go.Figure:
    """Draw what trimming leaves of conflicts, over one set of experts.

    Args:
        rows: of the question `conflicts`, those over the same experts.

    Returns:
        The figure: conflicts, entries that nobody keeps, and what an election drops.
    """
    figure = empty_figure("entries kept of each task vector, %", "share, %")
    lines = {
        "conflicting": ("entries with a sign conflict", LEVELS[0], "circle"),
        "redundant": ("entries that nobody keeps", MERGINGS["trimmed"][0], "square"),
        "outvoted": (
            "kept entries that an election drops",
            MERGINGS["elected"][0],
            "triangle-up",
        ),
    }
    shown = sorted(rows, key=lambda row: row["density"])
    for column, (name, hue, shape) in lines.items():
        there = [row for row in shown if row[column] is not None]
        figure.add_scatter(
            x=[_PERCENT * row["density"] for row in there],
            y=[_PERCENT * row[column] for row in there],
            mode="lines+markers",
            line={"color": hue, "width": 2.2},
            marker={"color": hue, "size": 8, "symbol": shape},
            name=name,
            hovertemplate="%{x:.3g}% kept: %{y:.1f}%<extra>" + name + "</extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return _with_legend(figure)


def magnitudes(rows: Rows, grouping: str, measure: str) -> go.Figure:
    """Draw how large merged entries are, a line for each kind of merging.

    Args:
        rows: of the question `magnitudes`, over the same experts at one density.
        grouping: a key of `GROUPINGS`.
        measure: a key of `MEASURES`.

    Returns:
        The figure.
    """
    shown = [row for row in rows if row["grouping"] == grouping]
    power = power_of(max((row[measure] for row in shown), default=0.0))
    figure = empty_figure(
        GROUPINGS[grouping], axis_name(MEASURES[measure], power), height=340
    )
    factor = _PERCENT if grouping == "agreement" else 1
    for merging, (hue, shape) in MERGINGS.items():
        line = sorted(
            (row for row in shown if row["merging"] == merging),
            key=lambda row: row["level"],
        )
        figure.add_scatter(
            x=[factor * row["level"] for row in line],
            y=[10.0**-power * row[measure] for row in line],
            mode="lines+markers",
            line={"color": hue, "width": 2.2},
            marker={"color": hue, "size": 9, "symbol": shape},
            name=CALLED[merging],
            customdata=[row["entries"] for row in line],
            hovertemplate="%{x:.3g}: %{y:.3g}, %{customdata:,} entries<extra>"
            + CALLED[merging]
            + "</extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(dtick=10 if factor > 1 else _step([r["level"] for r in shown]))
    return _with_legend(figure)


def agreement(rows: Rows, ceiling: float) -> go.Figure:
    """Draw by how many masks entries are selected.

    Args:
        rows: of the question `agreement`, of one merged task vector.
        ceiling: the largest share in any such figure, for a common scale.

    Returns:
        Bars for each number of tasks, one for each threshold.
    """
    figure = empty_figure("tasks whose mask selects an entry", "entries, %", height=340)
    thresholds = sorted({row["mask_threshold"] for row in rows})
    for threshold, hue in zip(thresholds, _shades(len(thresholds)), strict=True):
        bars = [row for row in rows if row["mask_threshold"] == threshold]
        figure.add_bar(
            x=[row["tasks"] for row in bars],
            y=[_PERCENT * row["share"] for row in bars],
            marker={"color": hue},
            name=f"threshold {threshold:g}",
            customdata=[row["name"] for row in bars],
            hovertemplate="%{x} tasks (%{customdata}): %{y:.1f}%"
            f"<extra>threshold {threshold:g}</extra>",
        )
    most = max((row["tasks"] for row in rows), default=0)
    names = {0: "none", most: "all"} if most else {}
    ticks = range(0, most + 1, _step(range(most + 1)))
    figure.update_xaxes(
        tickvals=[*ticks],
        ticktext=[names.get(tick, str(tick)) for tick in ticks],
        tickangle=0,
        showgrid=False,
        range=[-0.6, most + 0.6],
    )
    figure.update_yaxes(range=[0, 105 * ceiling])
    figure.update_layout(bargap=0.25, bargroupgap=0.05)
    return _with_legend(figure)


def mask_shares(rows: Rows, baselines: Rows) -> go.Figure:
    """Draw how much each task's mask selects, and what accuracy that restores.

    Args:
        rows: of the question `mask_shares`, one of each task.
        baselines: of the question `normalized`.

    Returns:
        Bars of what is selected; points of the accuracy of the restored models, and of
        one model for all, in percent of that of the task's expert.
    """
    figure = empty_figure("", "share, %", height=400)
    tasks = [row["task"] for row in rows]
    hue = SEQUENTIAL[-1]
    figure.add_bar(
        x=tasks,
        y=[_PERCENT * row["share"] for row in rows],
        marker={"color": hue},
        name="entries that its mask selects",
        customdata=[row["mask_threshold"] for row in rows],
        hovertemplate="%{x}: %{y:.1f}% selected at threshold %{customdata:g}"
        "<extra></extra>",
    )
    points = {
        "tall_masks": [row for row in rows if row["normalized"] is not None],
        "task_arithmetic": [
            row
            for row in baselines
            if row["method"] == "task_arithmetic" and row["task"] in tasks
        ],
    }
    for method, there in points.items():
        if not there:
            continue
        figure.add_scatter(
            x=[row["task"] for row in there],
            y=[_PERCENT * row["normalized"] for row in there],
            mode="markers",
            marker={"size": 11, "color": color(method), "symbol": symbol(method)},
            name=f"{title(method)}, share of the expert's accuracy",
            hovertemplate="%{x}: %{y:.1f}% of the expert's accuracy<extra>"
            f"{title(method)}</extra>",
        )
    figure.update_xaxes(tickangle=-45, showgrid=False, automargin=True)
    figure.update_yaxes(rangemode="tozero")
    return _with_legend(figure)


def redundancy(rows: Rows, references: Rows) -> go.Figure:
    """Draw what is left of experts of which only the largest changes are kept.

    Args:
        rows: of the question `redundancy`, ordered by method and density.
        references: of the question `leaderboard`; experts and the pretrained model are
            drawn across.

    Returns:
        Accuracy against the fraction of entries kept, with standard errors.
    """
    figure = empty_figure("entries kept of each task vector, %", "held-in accuracy, %")
    for reference in ("individual", "pretrained"):
        for row in references:
            if row["method"] == reference and row["held_in"] is not None:
                figure.add_hline(
                    y=_PERCENT * row["held_in"],
                    line={"color": color(reference), "width": 1.5, "dash": "dot"},
                    annotation={
                        "text": title(reference),
                        "font": {"size": 12, "color": MUTED},
                    },
                    annotation_position="bottom left",
                )
    for method, line in groupby(rows, key=lambda row: row["method"]):
        drawn: Sequence[Row] = list(line)
        hue = color(method)
        figure.add_scatter(
            x=[_PERCENT * row["density"] for row in drawn],
            y=[_PERCENT * row["held_in"] for row in drawn],
            error_y=error_bars([_PERCENT * row["held_in_se"] for row in drawn], hue),
            mode="lines+markers",
            line={"color": hue, "width": 2.2},
            marker={"color": hue, "size": 9, "symbol": symbol(method)},
            name=title(method),
            hovertemplate="%{x:.3g}% kept: %{y:.1f}%<extra>"
            + title(method)
            + "</extra>",
        )
    figure.update_xaxes(range=[0, 104])
    return _with_legend(figure)


def _density(density: float) -> str:
    return "untrimmed" if density == 1 else f"{_PERCENT * density:g}% kept"


def _shades(count: int) -> list[str]:
    """Choose shades from the first on, well apart; with too many, some share one."""
    apart = min(2.0, (len(LEVELS) - 1) / max(count - 1, 1))
    return [LEVELS[round(at * apart)] for at in range(count)]


def _step(numbers: Sequence[float]) -> int:
    """Choose a distance of ticks at whole numbers, with at most a dozen of them."""
    most = max(numbers, default=0) - min(numbers, default=0)
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if most / step <= 12)


def _with_legend(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        margin={"t": 48},
    )
    return figure
