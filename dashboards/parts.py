"""What the sections of a report are made of: text, figures, and their SQL and rows."""

from collections.abc import Callable, Mapping
from html import escape
from typing import TypeAlias

from plotly import graph_objects as go

from dashboards.captions import TEXTS
from dashboards.frame import Row, Rows
from dashboards.palette import ROLES
from dashboards.questions import Answered
from dashboards.text import figure_html, table
from dashboards.transductive import key

Answers: TypeAlias = Mapping[str, Answered]
"""Question to its answer."""


def section_html(name: str, content: str, details: str, **values: str) -> str:
    """Write a section.

    Args:
        name: its key in the captions, and its address in the page.
        content: HTML.
        details: HTML that stays folded, from `asked`.
        **values: what the heading and the lead leave open.

    Returns:
        HTML.
    """
    text = TEXTS[name]
    return (
        f'<section id="{name}"><h2>{text["heading"].format(**values)}</h2>\n'
        f"<p>{text['lead'].format(**values)}</p>\n{content}\n{key(content)}{details}"
        "</section>"
    )


def figure_grid(*drawn: tuple[go.Figure, str], kind: str = "") -> str:
    """Put figures beside one another, as many as there is room for.

    Args:
        *drawn: figures with their captions in HTML.
        kind: "small", "one" to a line, or none of them.

    Returns:
        HTML.
    """
    inside = "".join(figure_html(figure, caption=text) for figure, text in drawn)
    return f'<div class="figures {kind}">{inside}</div>'


def both_roles(
    section: str,
    draw: Callable[[Rows, str], go.Figure],
    rows: Rows,
    answers: Answers,
    question: str,
) -> str:
    """Write a section of a figure for held-in tasks, and one for generalization tasks.

    Args:
        section: see `section_html`.
        draw: what draws the rows for one kind of task.
        rows: what is drawn.
        answers: question to its answer.
        question: the question that the rows are from.

    Returns:
        HTML, empty without rows.
    """
    if not rows:
        return ""
    text = TEXTS[section]
    drawn = ((draw(rows, role), text[role]) for role in roles_of(rows))
    return section_html(section, figure_grid(*drawn), asked(answers, question))


def generalizing(answer: Answered) -> list[Row]:
    """Choose the rows that have scores on generalization tasks, too.

    Args:
        answer: with a column generalization.

    Returns:
        Its rows.
    """
    return [row for row in answer.rows if row["generalization"] is not None]


def scored(answer: Answered) -> list[Row]:
    """Choose the rows that have scores.

    Args:
        answer: with a column held_in.

    Returns:
        Its rows.
    """
    return [row for row in answer.rows if row["held_in"] is not None]


def roles_of(rows: Rows) -> list[str]:
    """Say which kinds of tasks there are scores on; not every suite has both.

    Args:
        rows: with a column for each kind, or with one that says which.

    Returns:
        "held_in", "generalization", or both.
    """
    return [
        role
        for role in ROLES
        if any(row.get(role) is not None or row.get("role") == role for row in rows)
    ]


def asked(answers: Answers, *names: str, with_rows: bool = True) -> str:
    """Write questions with their answers, folded.

    Args:
        answers: question to its answer.
        *names: the questions.
        with_rows: whether to show the rows of the answers, too.

    Returns:
        HTML.
    """
    blocks: list[str] = []
    for name in names:
        answer = answers[name]
        blocks.append(f"<pre>{escape(answer.sql)}</pre>")
        if with_rows:
            rows = table(answer.columns, answer.tuples)
            blocks.append(f'<div class="numbers">{rows}</div>')
    what = "The SQL and its rows" if with_rows else "The SQL"
    return f"<details><summary>{what}</summary>{''.join(blocks)}</details>"
