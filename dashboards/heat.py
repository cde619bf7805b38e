"""Heat maps: every method on every task."""

from plotly import graph_objects as go

from dashboards.frame import Rows, empty_figure
from dashboards.palette import DIVERGING, INK, SEQUENTIAL, title

_SCALE = [*zip((0, 0.55, 1), SEQUENTIAL, strict=True)]
_GAINS = [*zip((0, 0.5, 1), DIVERGING, strict=True)]

MOST_WRITTEN = 16
"""With more columns than this, numbers do not fit into a heat map's cells."""


def kept_accuracy(rows: Rows) -> go.Figure:
    """Draw what each model keeps of each expert's accuracy on the expert's task.

    Args:
        rows: of the question `normalized`, best method first.

    Returns:
        A heat map, methods by tasks.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    tasks = sorted({row["task"] for row in rows})
    values = {
        (row["method"], row["task"]): 100 * row["normalized"]
        for row in rows
        if row["normalized"] is not None
    }
    grid = [[values.get((method, task)) for task in tasks] for method in methods]
    figure = empty_figure("", "", height=140 + 28 * len(methods))
    figure.add_heatmap(
        z=grid,
        x=tasks,
        y=[title(method) for method in methods],
        text=[["" if v is None else f"{v:.0f}" for v in line] for line in grid],
        texttemplate="%{text}",
        textfont={"size": 11, "color": INK},
        colorscale=_SCALE,
        zmin=min(values.values(), default=0),
        zmax=100,
        xgap=2,
        ygap=2,
        showscale=False,
        hovertemplate="%{y} on %{x}: %{z:.1f}% of the expert's accuracy<extra></extra>",
    )
    figure.update_xaxes(side="top", tickangle=-45, showgrid=False, ticks="", dtick=1)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", automargin=True)
    figure.update_layout(margin={"t": 100, "b": 4, "l": 10, "r": 64})
    return figure


def accuracy_by_task(rows: Rows, *, gains: bool = False) -> go.Figure:
    """Draw every method's accuracy on every task.

    Args:
        rows: of the question `tasks`, best method first.
        gains: whether to draw what was gained over the pretrained model instead.

    Returns:
        A heat map, tasks by methods.
    """
    values = {(row["method"], row["task"]): 100 * row["accuracy"] for row in rows}
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    if gains:
        methods = [method for method in methods if method != "pretrained"]
        values = {
            (method, task): value - values["pretrained", task]
            for (method, task), value in values.items()
            if ("pretrained", task) in values
        }
    grid = [[values.get((method, task)) for method in methods] for task in tasks]
    figure = empty_figure("", "", height=150 + 22 * len(tasks))
    form = "{:+.0f}" if gains else "{:.0f}"
    is_written = len(methods) <= MOST_WRITTEN
    most = max((abs(value) for value in values.values()), default=1)
    figure.add_heatmap(
        z=grid,
        x=[title(method) for method in methods],
        y=tasks,
        text=[["" if v is None else form.format(v) for v in line] for line in grid],
        texttemplate="%{text}" if is_written else None,
        textfont={"size": 11, "color": INK},
        colorscale=_GAINS if gains else _SCALE,
        zmin=-most if gains else min(values.values(), default=0),
        zmax=most if gains else 100,
        xgap=2,
        ygap=2,
        colorbar={
            "title": {
                "text": "gain, points" if gains else "accuracy, %",
                "side": "right",
            },
            "thickness": 12,
            "outlinewidth": 0,
            "len": 220,
            "lenmode": "pixels",
            "y": 1,
            "yanchor": "top",
        },
        hovertemplate="%{x} on %{y}: %{text}"
        + (" points" if gains else "%")
        + "<extra></extra>",
    )
    figure.update_xaxes(side="top", tickangle=-45, showgrid=False, ticks="", dtick=1)
    figure.update_yaxes(
        autorange="reversed", showgrid=False, ticks="", automargin=True, dtick=1
    )
    figure.update_layout(margin={"t": 116, "b": 4, "l": 10, "r": 10})
    return figure
