"""Sections about the studies of the papers; each appears only if its rows are there."""

from html import escape

from dashboards import bills, growth, pairs, per_task, sweeps
from dashboards.captions import TEXTS
from dashboards.frame import Rows
from dashboards.palette import color, title
from dashboards.parts import (
    Answers,
    asked,
    both_roles,
    figure_grid,
    roles_of,
    scored,
    section_html,
)
from dashboards.tables import useless_weights_table
from dashboards.text import figure_html, line_key


def bootstrap(answers: Answers) -> str:
    """Show how often each method is ahead of each other one on tasks drawn anew.

    Args:
        answers: question to its answer.

    Returns:
        HTML, empty if there is nothing to show; so for every section.
    """
    rows = answers["bootstrap"].rows
    text = TEXTS["bootstrap"]
    drawn = [
        figure_grid((pairs.ahead(rows, role), text[role]), kind="one")
        for role in roles_of(rows)
    ]
    if not drawn:
        return ""
    content = "".join(f'<div class="wide scroll">{one}</div>' for one in drawn)
    return section_html("bootstrap", content, asked(answers, "bootstrap"))


def tasks(answers: Answers) -> str:
    """Show every method's accuracy and rank on every task, and its profile."""
    rows = answers["tasks"].rows
    if not rows:
        return ""
    text = TEXTS["tasks"]
    held_in, others = (
        [row for row in rows if row["role"] == role]
        for role in ("held_in", "generalization")
    )
    content = f"<h3>{text['held_in']}</h3>{per_task.ranked_table(held_in)}"
    if others:
        content += (
            f"<details><summary>{text['generalization']}</summary>"
            f"{per_task.ranked_table(others, answers['experts'].rows)}</details>"
        )
    content += f"<p>{text['profiles']}</p>{_profiles(held_in)}"
    return section_html("tasks", content, asked(answers, "tasks", "experts"))


def scale_sweeps(answers: Answers) -> str:
    """Show how sensitive each method is to its scale."""
    rows = scored(answers["scale_sweeps"])
    if len({row["method"] for row in rows}) <= 1:
        return ""
    return both_roles("scale_sweeps", sweeps.scales, rows, answers, "scale_sweeps")


def selections(answers: Answers) -> str:
    """Show the largest entries against as many at random."""
    rows = scored(answers["selections"])
    return both_roles("selections", sweeps.selection, rows, answers, "selections")


def consensus_thresholds(answers: Answers) -> str:
    """Show the accuracy of consensus merging along its threshold."""
    rows = scored(answers["consensus_thresholds"])
    few = answers["useless_weights"].rows
    if len({row["agreement"] for row in rows}) <= 1:
        return ""
    text = TEXTS["consensus_thresholds"]
    content = figure_grid(
        *((sweeps.thresholds(rows, role), text[role]) for role in roles_of(rows))
    )
    if few:
        content += f"<h3>{text['few']}</h3>{useless_weights_table(few)}"
    details = asked(answers, "consensus_thresholds", "useless_weights")
    return section_html("consensus_thresholds", content, details)


def incremental(answers: Answers) -> str:
    """Show what happens to an expert's task as others are merged in."""
    shown = growth.panels(answers["incremental"].rows)
    if not shown:
        return ""
    methods = dict.fromkeys(row["method"] for panel in shown for row in panel)
    drawn = "".join(
        figure_html(
            growth.incremental(panel),
            heading=panel[0]["task"],
            caption=escape(growth.said(panel)),
        )
        for panel in shown
    )
    content = (
        f"{line_key({title(method): color(method) for method in methods})}"
        f'<div class="figures small">{drawn}</div>'
    )
    return section_html("incremental", content, asked(answers, "incremental"))


def memory(answers: Answers) -> str:
    """Show how much memory merges and their statistics took."""
    rows = answers["memory_peaks"].rows
    if not rows:
        return ""
    content = figure_grid((bills.memory(rows), TEXTS["memory"]["points"]), kind="one")
    return section_html("memory", content, asked(answers, "memory_peaks"))


def _profiles(rows: Rows) -> str:
    order = per_task.by_difficulty(rows)
    methods = dict.fromkeys(row["method"] for row in rows if row["kind"] != "reference")
    drawn = "".join(
        figure_html(per_task.profile(rows, method, order), heading=title(method))
        for method in methods
    )
    return f'<div class="figures small">{drawn}</div>'
