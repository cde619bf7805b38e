"""The sections of a report, each from the answers to one or two questions."""

import json
from collections.abc import Callable
from html import escape
from itertools import groupby

from dashboards import bills, figures, heat, standings, sweeps
from dashboards.board import board
from dashboards.captions import TEXTS
from dashboards.frame import Row, Rows
from dashboards.learned_sections import (
    budgets,
    learned_coefficients,
    learning_costs,
    learning_curves,
)
from dashboards.palette import ROLES, title
from dashboards.parts import (
    Answers,
    asked,
    both_roles,
    figure_grid,
    generalizing,
    roles_of,
    scored,
    section_html,
)
from dashboards.storage_sections import storage
from dashboards.study_sections import (
    bootstrap,
    consensus_thresholds,
    incremental,
    memory,
    scale_sweeps,
    selections,
    tasks,
)
from dashboards.tables import facts_table, prerequisites_table, provenance_facts
from dashboards.text import figure_html, line_key
from dashboards.vector_sections import (
    agreement,
    conflicts,
    magnitudes,
    redundancy,
    task_vectors,
)


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
    details = asked(answers, "leaderboard")
    return section_html("leaderboard", content, details, size=str(size))


def trade_off(answers: Answers) -> str:
    """Show held-in accuracy against generalization."""
    rows = generalizing(answers["held_in_vs_generalization"])
    merged = [row for row in rows if row["kind"] == "merged"]
    if not merged:
        return ""
    first = merged[0]
    said = figures.correlation(first["pearson_r"], first["pearson_p"], first["methods"])
    text = TEXTS["trade_off"]
    content = figure_grid(
        (figures.held_in_vs_generalization(rows, references=False), text["near"]),
        (figures.held_in_vs_generalization(rows), text["far"]),
    )
    details = asked(answers, "held_in_vs_generalization")
    return section_html(
        "trade_off", content, details, correlation=f"{said}." if said else ""
    )


def differences(answers: Answers) -> str:
    """Show how far each method is behind the best one."""
    rows = answers["paired"].rows
    draw = standings.behind_best
    return both_roles("differences", draw, rows, answers, "paired")


def kept(answers: Answers) -> str:
    """Show what merges keep of each expert's accuracy."""
    rows = answers["normalized"].rows
    if not rows:
        return ""
    content = f'<div class="scroll wide">{figure_html(heat.kept_accuracy(rows))}</div>'
    return section_html("kept", content, asked(answers, "normalized"))


def options(answers: Answers) -> str:
    """Show how much each option of each method matters."""
    rows = scored(answers["sensitivity"])
    if not rows:
        return ""
    board_rows = answers["leaderboard"].rows
    pretrained = next((r for r in board_rows if r["method"] == "pretrained"), None)
    roles = roles_of(rows)
    values = [row[role] for row in rows for role in roles if row[role] is not None]
    lines = groupby(rows, key=lambda row: (row["method"], row["option"]))
    drawn = "".join(
        _option_figure(list(line), pretrained, max(values)) for _, line in lines
    )
    hues = {role.replace("_", "-"): ROLES[role] for role in roles}
    fixed = [
        row for row in board_rows if row["kind"] == "merged" and not row["options"]
    ]
    text = TEXTS["options"]
    indexed = figure_grid(
        *((sweeps.indexed(rows, fixed, role), text[role]) for role in roles)
    )
    content = f'{line_key(hues)}<div class="figures small">{drawn}</div>{indexed}'
    return section_html("options", content, asked(answers, "sensitivity"))


def sizes(answers: Answers) -> str:
    """Show accuracy against the number of experts."""
    rows = scored(answers["scaling"])
    if len({row["size"] for row in rows if row["kind"] != "reference"}) <= 1:
        return ""
    text = TEXTS["sizes"]
    content = figure_grid(
        *(
            (figures.scaling(rows, column), text[column])
            for column in (*roles_of(rows), "normalized")
        )
    )
    return section_html("sizes", content, asked(answers, "scaling"))


def costs(answers: Answers) -> str:
    """Show accuracy against floating-point operations, and against seconds."""
    rows = [row for row in scored(answers["costs"]) if row["total_flops"]]
    if not rows:
        return ""
    text, roles = TEXTS["costs"], roles_of(rows)
    content = figure_grid(
        *((bills.cost_against_accuracy(rows, role), text[role]) for role in roles),
        *(
            (bills.time_against_accuracy(rows, role), text[f"{role}_seconds"])
            for role in roles
        ),
    )
    return section_html("costs", content, asked(answers, "costs"))


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
        content += figure_grid((bars, TEXTS["time"]["bars"]), kind="one")
    details = asked(answers, "prerequisites", "stages", "spent")
    return section_html("time", content, details)


def paper(answers: Answers) -> str:
    """Show our gains beside a paper's."""
    rows = answers["against_paper"].rows
    if not rows:
        return ""
    text, first = TEXTS["paper"], rows[0]
    drawn = ((figures.against_paper(rows, role), text[role]) for role in roles_of(rows))
    is_ours = answers["provenance"].rows[0]["suite"] == first["suite"]
    return section_html(
        "paper",
        figure_grid(*drawn),
        asked(answers, "against_paper"),
        paper=text[first["paper"]].strip(),
        suite=escape(first["suite"]),
        model=escape(first["model"]),
        differs=text["same_suite" if is_ours else "other_suite"],
    )


def provenance(answers: Answers) -> str:
    """Show which code and machines made the numbers."""
    facts = answers["provenance"].rows[0]
    document = json.dumps(json.loads(facts["document"] or "{}"), indent=2)
    content = (
        f"{facts_table(provenance_facts(facts))}"
        "<details><summary>The experiment, defaults spelt out</summary>"
        f"<pre>{escape(document)}</pre></details>"
    )
    details = asked(answers, "provenance", with_rows=False)
    return section_html("provenance", content, details)


SECTIONS: tuple[Callable[[Answers], str], ...] = (
    leaderboard,
    trade_off,
    differences,
    bootstrap,
    tasks,
    kept,
    options,
    scale_sweeps,
    selections,
    consensus_thresholds,
    sizes,
    incremental,
    costs,
    time,
    memory,
    budgets,
    learned_coefficients,
    learning_curves,
    learning_costs,
    storage,
    redundancy,
    conflicts,
    magnitudes,
    agreement,
    task_vectors,
    paper,
    provenance,
)
"""The sections in order."""


def extents(line: Rows) -> str:
    """Say between which accuracies an option moves a method.

    Args:
        line: rows of the question `sensitivity` about one option.

    Returns:
        Text such as "held-in 53.1 to 70.8%; generalization 50.2 to 68.8%".
    """
    said: list[str] = []
    for role in roles_of(line):
        values = [100 * row[role] for row in line if row[role] is not None]
        said.append(f"{role.replace('_', '-')} {min(values):.1f} to {max(values):.1f}%")
    return "; ".join(said)


def _option_figure(line: Rows, pretrained: Row | None, ceiling: float) -> str:
    return figure_html(
        figures.sensitivity(line, pretrained, ceiling),
        heading=f"{title(line[0]['method'])}: {line[0]['option']}",
        caption=extents(line),
    )
