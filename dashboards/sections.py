"""The sections of a report, each from the answers to one or two questions."""

import json
from collections.abc import Callable, Mapping
from html import escape
from itertools import groupby
from typing import TypeAlias

from plotly import graph_objects as go

from dashboards import bills, figures, heat, standings
from dashboards.board import board
from dashboards.captions import TEXTS
from dashboards.frame import Row, Rows
from dashboards.palette import ROLES, title
from dashboards.questions import Answered
from dashboards.tables import facts_table, prerequisites_table, provenance_facts
from dashboards.text import figure_html, table

Answers: TypeAlias = Mapping[str, Answered]
"""Question to its answer."""


def leaderboard(answers: Answers) -> str:
    """Show every method with its chosen options, and the models for reference.

    Args:
        answers: question to its answer.

    Returns:
        HTML, empty if there is nothing to show; so for every section.
    """
    rows = answers["leaderboard"].rows
    size = max((row["size"] for row in rows), default=0)
    content = f'{board(rows)}<p class="key">{TEXTS["leaderboard"]["key"]}</p>'
    details = _questions(answers, "leaderboard")
    return _section("leaderboard", content, details, size=str(size))


def trade_off(answers: Answers) -> str:
    """Show held-in accuracy against generalization."""
    rows = _generalizing(answers["held_in_vs_generalization"])
    merged = [row for row in rows if row["kind"] == "merged"]
    if not merged:
        return ""
    first = merged[0]
    said = figures.correlation(first["pearson_r"], first["pearson_p"], first["methods"])
    text = TEXTS["trade_off"]
    content = _figures(
        (figures.held_in_vs_generalization(rows, references=False), text["near"]),
        (figures.held_in_vs_generalization(rows), text["far"]),
    )
    details = _questions(answers, "held_in_vs_generalization")
    return _section(
        "trade_off", content, details, correlation=f"{said}." if said else ""
    )


def differences(answers: Answers) -> str:
    """Show how far each method is behind the best one."""
    rows = answers["paired"].rows
    draw = standings.behind_best
    return _both_roles("differences", draw, rows, answers, "paired")


def kept(answers: Answers) -> str:
    """Show what merges keep of each expert's accuracy."""
    rows = answers["normalized"].rows
    if not rows:
        return ""
    content = f'<div class="scroll wide">{figure_html(heat.kept_accuracy(rows))}</div>'
    return _section("kept", content, _questions(answers, "normalized"))


def options(answers: Answers) -> str:
    """Show how much each option of each method matters."""
    rows = _generalizing(answers["sensitivity"])
    if not rows:
        return ""
    board_rows = answers["leaderboard"].rows
    pretrained = next((r for r in board_rows if r["method"] == "pretrained"), None)
    values = [row[role] for row in rows for role in ROLES]
    lines = groupby(rows, key=lambda row: (row["method"], row["option"]))
    drawn = "".join(
        _option_figure(list(line), pretrained, max(values)) for _, line in lines
    )
    key = "".join(
        f'<span><i style="border-color:{hue}"></i>{role.replace("_", "-")}</span>'
        for role, hue in ROLES.items()
    )
    content = f'<p class="key">{key}</p><div class="figures small">{drawn}</div>'
    return _section("options", content, _questions(answers, "sensitivity"))


def sizes(answers: Answers) -> str:
    """Show accuracy against the number of experts."""
    rows = _generalizing(answers["scaling"])
    if len({row["size"] for row in rows}) <= 1:
        return ""
    text = TEXTS["sizes"]
    content = _figures(
        *(
            (figures.scaling(rows, column), text[column])
            for column in ("held_in", "generalization", "normalized")
        )
    )
    return _section("sizes", content, _questions(answers, "scaling"))


def costs(answers: Answers) -> str:
    """Show accuracy against floating-point operations."""
    rows = [row for row in _generalizing(answers["costs"]) if row["total_flops"]]
    draw = bills.cost_against_accuracy
    return _both_roles("costs", draw, rows, answers, "costs")


def time(answers: Answers) -> str:
    """Show prerequisites, and where the time went."""
    rows = answers["prerequisites"].rows
    if not rows:
        return ""
    content = prerequisites_table(rows)
    board_rows = answers["leaderboard"].rows
    merged = [row["method"] for row in board_rows if row["kind"] == "merged"]
    if merged:
        bars = bills.stages(answers["stages"].rows, merged)
        content += _figures((bars, TEXTS["time"]["bars"]), kind="one")
    details = _questions(answers, "prerequisites", "stages", "spent")
    return _section("time", content, details)


def paper(answers: Answers) -> str:
    """Show our gains beside the paper's."""
    rows = answers["against_paper"].rows
    draw = figures.against_paper
    return _both_roles("paper", draw, rows, answers, "against_paper")


def provenance(answers: Answers) -> str:
    """Show which code and machines made the numbers."""
    facts = answers["provenance"].rows[0]
    document = json.dumps(json.loads(facts["document"] or "{}"), indent=2)
    content = (
        f"{facts_table(provenance_facts(facts))}"
        "<details><summary>The experiment, defaults spelt out</summary>"
        f"<pre>{escape(document)}</pre></details>"
    )
    details = _questions(answers, "provenance", with_rows=False)
    return _section("provenance", content, details)


SECTIONS: tuple[Callable[[Answers], str], ...] = (
    leaderboard,
    trade_off,
    differences,
    kept,
    options,
    sizes,
    costs,
    time,
    paper,
    provenance,
)
"""The sections in order."""


def _generalizing(answer: Answered) -> list[Row]:
    return [row for row in answer.rows if row["generalization"] is not None]


def extents(line: Rows) -> str:
    """Say between which accuracies an option moves a method.

    Args:
        line: rows of the question `sensitivity` about one option.

    Returns:
        Text such as "held-in 53.1 to 70.8%; generalization 50.2 to 68.8%".
    """
    said: list[str] = []
    for role in ROLES:
        values = [100 * row[role] for row in line]
        said.append(f"{role.replace('_', '-')} {min(values):.1f} to {max(values):.1f}%")
    return "; ".join(said)


def _option_figure(line: Rows, pretrained: Row | None, ceiling: float) -> str:
    return figure_html(
        figures.sensitivity(line, pretrained, ceiling),
        heading=f"{title(line[0]['method'])}: {line[0]['option']}",
        caption=extents(line),
    )


def _both_roles(
    section: str,
    draw: Callable[[Rows, str], go.Figure],
    rows: Rows,
    answers: Answers,
    question: str,
) -> str:
    if not rows:
        return ""
    text = TEXTS[section]
    content = _figures(*((draw(rows, role), text[role]) for role in ROLES))
    return _section(section, content, _questions(answers, question))


def _section(name: str, content: str, details: str, **values: str) -> str:
    text = TEXTS[name]
    return (
        f'<section id="{name}"><h2>{text["heading"].format(**values)}</h2>\n'
        f"<p>{text['lead'].format(**values)}</p>\n{content}\n{details}</section>"
    )


def _figures(*drawn: tuple[go.Figure, str], kind: str = "") -> str:
    inside = "".join(figure_html(figure, caption=text) for figure, text in drawn)
    return f'<div class="figures {kind}">{inside}</div>'


def _questions(answers: Answers, *names: str, with_rows: bool = True) -> str:
    blocks: list[str] = []
    for name in names:
        answer = answers[name]
        blocks.append(f"<pre>{escape(answer.sql)}</pre>")
        if with_rows:
            rows = table(answer.columns, answer.tuples)
            blocks.append(f'<div class="numbers">{rows}</div>')
    what = "The SQL and its rows" if with_rows else "The SQL"
    return f"<details><summary>{what}</summary>{''.join(blocks)}</details>"
