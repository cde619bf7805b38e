"""Every method on every task: tables as papers print them, and small figures."""

from collections.abc import Sequence
from html import escape

from plotly import graph_objects as go

from dashboards.frame import Axis, Row, Rows, empty_figure, error_bars
from dashboards.palette import MUTED, color, symbol, title
from dashboards.text import DASH, glyph, percent

MOST_COLUMNS = 16
"""With more tasks than this, a table has a line for each task, not for each method."""

_MOST_NAMED = 14  # tasks whose names fit below a small figure
_ACCURACY = Axis("accuracy")


def ranked_table(rows: Rows, experts: Rows = ()) -> str:
    """Write every method's accuracy on every task, with its rank among the merges.

    Args:
        rows: of the question `tasks` about one kind of task, best method first.
        experts: of the question `experts`, to list each by itself below the methods, as
            in Tables 11 and 12 of TIES.

    Returns:
        HTML, as in the tables of SuperMerge: methods by tasks, "accuracy ± standard
        error (rank)", means first. With many tasks it is turned.
    """
    alone: list[Row] = [
        {
            **row,
            "method": _expert(row["expert"]),
            "kind": "reference",
            "task_rank": None,
        }
        for row in experts
    ]
    methods = list(dict.fromkeys(row["method"] for row in (*rows, *alone)))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    cells = {(row["method"], row["task"]): row for row in (*rows, *alone)}
    best = {task: _best(rows, task) for task in tasks}
    examples = {row["task"]: row["examples"] for row in rows}
    lines = [
        [
            _mean([cells[method, task] for task in tasks if (method, task) in cells]),
            *(_cell(cells.get((method, task)), best[task]) for task in tasks),
        ]
        for method in methods
    ]
    names = [_name(method) for method in methods]
    is_turned = len(tasks) > MOST_COLUMNS
    between = ", " if is_turned else "<br>"
    heads = [
        "mean",
        *(f"{escape(task)}{between}n = {examples[task]:,}" for task in tasks),
    ]
    if is_turned:
        turned = [[*column] for column in zip(*lines, strict=True)]
        return _table("task", names, heads, turned)
    return _table("method", heads, names, lines)


def profile(rows: Rows, method: str, order: Sequence[str]) -> go.Figure:
    """Draw one method's accuracy on every task, beside the models for reference.

    Args:
        rows: of the question `tasks` about one kind of task.
        method: the method.
        order: the tasks from left to right.

    Returns:
        The figure: the method, the pretrained model (dotted), and the individual
        experts (thin).
    """
    figure = empty_figure("", "accuracy, %", height=256)
    is_named = len(order) <= _MOST_NAMED
    lines = {
        "pretrained": {"color": MUTED, "width": 1.5, "dash": "dot"},
        "individual": {"color": MUTED, "width": 1.2},
        method: {"color": color(method), "width": 2.2 if is_named else 1.2},
    }
    for name, line in lines.items():
        own = {row["task"]: row for row in rows if row["method"] == name}
        shown = [own[task] for task in order if task in own]
        figure.add_scatter(
            x=[row["task"] for row in shown],
            y=[_ACCURACY.value(row) for row in shown],
            error_y=error_bars([_ACCURACY.error(row) for row in shown], color(name))
            if name == method
            else None,
            mode="lines+markers" if name == method else "lines",
            line=line,
            marker={"size": 6 if is_named else 4, "symbol": symbol(name)},
            hovertemplate="%{x}: %{y:.1f}%<extra>" + title(name) + "</extra>",
        )
    figure.update_xaxes(
        categoryorder="array",
        categoryarray=[*order],
        showticklabels=is_named,
        showgrid=is_named,
        ticks="outside" if is_named else "",
        tickangle=-45,
        tickfont={"size": 10},
        dtick=1,
        automargin=True,
    )
    figure.update_yaxes(range=[0, 102])
    figure.update_layout(margin={"t": 8, "b": 20, "l": 50, "r": 10})
    return figure


def by_difficulty(rows: Rows) -> list[str]:
    """Order tasks by how well the pretrained model does on them.

    Args:
        rows: of the question `tasks` about one kind of task.

    Returns:
        The tasks, the hardest first; by name where nothing is known of that model.
    """
    known = {
        row["task"]: row["accuracy"] for row in rows if row["method"] == "pretrained"
    }
    tasks = {row["task"] for row in rows}
    return sorted(tasks, key=lambda task: (known.get(task, 0), task))


def _expert(task: str) -> str:
    return f"expert of {task}"  # no method has such a name


def _name(method: str) -> str:
    drawn = glyph("individual" if method.startswith(_expert("")) else method)
    return f"{drawn}{escape(title(method))}"


def _best(rows: Rows, task: str) -> float | None:
    ranked = [row for row in rows if row["task"] == task and row["kind"] == "merged"]
    return max((row["accuracy"] for row in ranked), default=None)


def _mean(rows: Rows) -> str:
    accuracy = sum(row["accuracy"] for row in rows) / len(rows)
    error = sum(row["accuracy_se"] ** 2 for row in rows) ** 0.5 / len(rows)
    ranks = [row["task_rank"] for row in rows if row["task_rank"] is not None]
    rank = f" ({sum(ranks) / len(ranks):.1f})" if ranks else ""
    return f"<td>{percent(accuracy, error)}{rank}</td>"


def _cell(row: Row | None, best: float | None) -> str:
    if row is None:
        return f"<td>{DASH}</td>"
    is_best = row["kind"] == "merged" and row["accuracy"] == best
    rank = f" ({row['task_rank']:g})" if row["task_rank"] is not None else ""
    text = f"{percent(row['accuracy'], row['accuracy_se'])}{rank}"
    return f"<td{' class=best' if is_best else ''}>{text}</td>"


def _table(
    corner: str,
    heads: Sequence[str],
    names: Sequence[str],
    lines: Sequence[Sequence[str]],
) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(
        f"<tr><td class=text>{name}</td>{''.join(cells)}</tr>"
        for name, cells in zip(names, lines, strict=True)
    )
    return (
        '<div class="scroll ranked"><table>'
        f"<thead><tr><th class=text>{corner}</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
