"""The sections of a report, each from the answers to one or two questions."""

import json
import tomllib
from collections.abc import Callable, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from plotly import graph_objects as go

from dashboards import figures
from dashboards.board import board
from dashboards.palette import ROLES, title
from dashboards.questions import Answered
from dashboards.text import duration, figure_html, quantity, table

Answers: TypeAlias = Mapping[str, Answered]
"""Question to its answer."""

TEXTS: Mapping[str, Mapping[str, str]] = tomllib.loads(
    Path(__file__).with_name("report.toml").read_text(encoding="utf-8")
)
"""Section to its heading, its lead and its captions."""


def leaderboard(experiment: str, answers: Answers) -> str:
    """Show every method with its chosen options, and the models for reference.

    Args:
        experiment: the experiment's name.
        answers: question to its answer.

    Returns:
        HTML, empty if there is nothing to show; so for every section.
    """
    rows = answers["leaderboard"].rows
    size = max((row["size"] for row in rows), default=0)
    content = f'{board(rows)}<p class="key">{TEXTS["leaderboard"]["key"]}</p>'
    details = _questions(experiment, answers, "leaderboard")
    return _section("leaderboard", content, details, size=str(size))


def trade_off(experiment: str, answers: Answers) -> str:
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
    details = _questions(experiment, answers, "held_in_vs_generalization")
    return _section(
        "trade_off", content, details, correlation=f"{said}." if said else ""
    )


def differences(experiment: str, answers: Answers) -> str:
    """Show how far each method is behind the best one."""
    rows = answers["paired"].rows
    draw = figures.behind_best
    return _both_roles("differences", draw, rows, experiment, answers, "paired")


def kept(experiment: str, answers: Answers) -> str:
    """Show what merges keep of each expert's accuracy."""
    rows = answers["normalized"].rows
    if not rows:
        return ""
    content = (
        f'<div class="scroll wide">{figure_html(figures.kept_accuracy(rows))}</div>'
    )
    return _section("kept", content, _questions(experiment, answers, "normalized"))


def options(experiment: str, answers: Answers) -> str:
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
    return _section("options", content, _questions(experiment, answers, "sensitivity"))


def sizes(experiment: str, answers: Answers) -> str:
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
    return _section("sizes", content, _questions(experiment, answers, "scaling"))


def costs(experiment: str, answers: Answers) -> str:
    """Show accuracy against floating-point operations."""
    rows = [row for row in _generalizing(answers["costs"]) if row["total_flops"]]
    draw = figures.cost_against_accuracy
    return _both_roles("costs", draw, rows, experiment, answers, "costs")


def time(experiment: str, answers: Answers) -> str:
    """Show prerequisites, and where the time went."""
    rows = answers["prerequisites"].rows
    if not rows:
        return ""
    body = "".join(
        f'<tr><td class="text">{escape(row["stage"])}</td><td>{row["steps"]}</td>'
        f"<td>{duration(row['seconds'])}</td><td>{quantity(row['flops'] or None)}</td>"
        f"<td>{quantity(row['examples'] or None)}</td>"
        f"<td>{quantity(row['bytes'], 'B')}</td><td>{row['cells']}</td></tr>"
        for row in rows
    )
    head = (
        '<th class="text">step</th><th>steps</th><th>time</th><th>FLOPs</th>'
        "<th>examples seen</th><th>stored</th><th>merges that<br>needed it</th>"
    )
    content = (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    board_rows = answers["leaderboard"].rows
    merged = [row["method"] for row in board_rows if row["kind"] == "merged"]
    if merged:
        bars = figures.stages(answers["stages"].rows, merged)
        content += _figures((bars, TEXTS["time"]["bars"]), kind="one")
    details = _questions(experiment, answers, "prerequisites", "stages", "spent")
    return _section("time", content, details)


def paper(experiment: str, answers: Answers) -> str:
    """Show our gains beside the paper's."""
    rows = answers["against_paper"].rows
    draw = figures.against_paper
    return _both_roles("paper", draw, rows, experiment, answers, "against_paper")


def provenance(experiment: str, answers: Answers) -> str:
    """Show which code and machines made the numbers."""
    facts = answers["provenance"].rows[0]
    versions = json.loads(facts["versions"] or "{}")
    changed = ", with changes that are not in it" if facts["git_dirty"] else ""
    items = {
        "definition": facts["definition"],
        "recorded": facts["recorded_at"],
        "commit": f"{facts['git_commit'] or 'none: it was installed'}{changed}",
        "steps made by": facts["commits"] or "no commit",
        "machines": facts["devices"] or "unknown",
        "packages": ", ".join(f"{name} {v}" for name, v in versions.items()),
    }
    body = "".join(
        f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
        for name, value in items.items()
    )
    document = json.dumps(json.loads(facts["document"] or "{}"), indent=2)
    content = (
        f'<div class="scroll"><table class="plain">{body}</table></div>'
        "<details><summary>The experiment, defaults spelt out</summary>"
        f"<pre>{escape(document)}</pre></details>"
    )
    details = _questions(experiment, answers, "provenance", with_rows=False)
    return _section("provenance", content, details)


SECTIONS: tuple[Callable[[str, Answers], str], ...] = (
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


def _generalizing(answer: Answered) -> list[figures.Row]:
    return [row for row in answer.rows if row["generalization"] is not None]


def _option_figure(
    line: figures.Rows, pretrained: figures.Row | None, ceiling: float
) -> str:
    extents = [
        f"{role.replace('_', '-')} {_extent([row[role] for row in line])}"
        for role in ROLES
    ]
    return figure_html(
        figures.sensitivity(line, pretrained, ceiling),
        heading=f"{title(line[0]['method'])}: {line[0]['option']}",
        caption="; ".join(extents),
    )


def _extent(values: list[float]) -> str:
    return f"{100 * min(values):.1f} to {100 * max(values):.1f}%"


def _both_roles(
    section: str,
    draw: Callable[[figures.Rows, str], go.Figure],
    rows: figures.Rows,
    experiment: str,
    answers: Answers,
    question: str,
) -> str:
    if not rows:
        return ""
    text = TEXTS[section]
    content = _figures(*((draw(rows, role), text[role]) for role in ROLES))
    return _section(section, content, _questions(experiment, answers, question))


def _section(name: str, content: str, details: str, **values: str) -> str:
    text = TEXTS[name]
    return (
        f'<section id="{name}"><h2>{text["heading"].format(**values)}</h2>\n'
        f"<p>{text['lead'].format(**values)}</p>\n{content}\n{details}</section>"
    )


def _figures(*drawn: tuple[go.Figure, str], kind: str = "") -> str:
    inside = "".join(figure_html(figure, caption=text) for figure, text in drawn)
    return f'<div class="figures {kind}">{inside}</div>'


def _questions(
    experiment: str, answers: Answers, *names: str, with_rows: bool = True
) -> str:
    blocks: list[str] = []
    for name in names:
        answer = answers[name]
        blocks.append(f"<pre>{escape(answer.sql_about(experiment))}</pre>")
        if with_rows:
            rows = table(answer.columns, answer.tuples)
            blocks.append(f'<div class="numbers">{rows}</div>')
    what = "The SQL and its rows" if with_rows else "The SQL"
    return f"<details><summary>{what}</summary>{''.join(blocks)}</details>"
