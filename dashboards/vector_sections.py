"""The sections of a report about task vectors: how large they are, how much at odds."""

from plotly import graph_objects as go

from dashboards import interference
from dashboards.captions import TEXTS
from dashboards.frame import Row, Rows
from dashboards.parts import Answers, asked, figure_grid, section_html
from dashboards.text import figure_html
from dashboards.violins import extent_of, violins

MOST_VIOLINS = 2
"""Experts whose violins a report shows; the app shows those that are chosen."""


def redundancy(answers: Answers) -> str:
    """Show how much of a task vector can be left out.

    Args:
        answers: question to its answer.

    Returns:
        HTML, empty if there is nothing to show; so for every section.
    """
    rows = answers["redundancy"].rows
    if len({row["density"] for row in rows}) <= 1:
        return ""
    drawn = interference.redundancy(rows, answers["leaderboard"].rows)
    content = figure_grid((drawn, TEXTS["redundancy"]["figure"]), kind="one")
    return section_html("redundancy", content, asked(answers, "redundancy"))


def conflicts(answers: Answers) -> str:
    """Show how often experts disagree in sign."""
    rows = answers["conflicts"].rows
    if not rows:
        return ""
    text = TEXTS["conflicts"]
    drawn: list[tuple[go.Figure, str]] = []
    if len({row["size"] for row in rows}) > 1:
        drawn.append((interference.conflicts_by_size(rows), text["sizes"]))
    largest = [row for row in rows if row["subset"] == 1]
    if largest:
        drawn.append((interference.conflicts_by_density(largest), text["densities"]))
    return section_html("conflicts", figure_grid(*drawn), asked(answers, "conflicts"))


def magnitudes(answers: Answers) -> str:
    """Show how large merged entries are, and why not larger."""
    rows = at_one_density(answers["magnitudes"].rows)
    if not rows:
        return ""
    text = TEXTS["magnitudes"]
    content = figure_grid(
        *(
            (interference.magnitudes(rows, grouping, measure), text[grouping])
            for grouping in interference.GROUPINGS
            for measure in interference.MEASURES
        )
    )
    kept = f"{100 * rows[0]['density']:g}"
    details = asked(answers, "magnitudes")
    return section_html("magnitudes", content, details, kept=kept)


def agreement(answers: Answers) -> str:
    """Show by how many tasks entries are selected, and how many by each task."""
    rows = answers["agreement"].rows
    if not rows:
        return ""
    text = TEXTS["agreement"]
    ceiling = max(row["share"] for alike in by_merged(rows) for row in alike)
    content = figure_grid(
        *(
            (interference.agreement(alike, ceiling), text[alike[0]["merge_by"]])
            for alike in by_merged(rows)
        )
    )
    shares = chosen_shares(by_merged(answers["mask_shares"].rows)[0])
    drawn = interference.mask_shares(shares, answers["normalized"].rows)
    content += figure_grid((drawn, text["shares"]), kind="one")
    details = asked(answers, "agreement", "mask_shares")
    return section_html("agreement", content, details)


def task_vectors(answers: Answers) -> str:
    """Show how the entries of task vectors are spread, layer by layer."""
    rows = answers["task_vectors"].rows
    if not rows:
        return ""
    tasks = list(dict.fromkeys(row["task"] for row in rows))[:MOST_VIOLINS]
    shown = [row for row in rows if row["task"] in tasks]
    extent = extent_of(shown)
    drawn = "".join(
        figure_html(
            violins([row for row in shown if row["task"] == task], extent), heading=task
        )
        for task in tasks
    )
    content = f'<div class="scroll wide">{drawn}</div>'
    details = asked(answers, "task_vectors", with_rows=False)
    return section_html("task_vectors", content, details)


def at_one_density(rows: Rows) -> list[Row]:
    """Choose the rows at the density that TIES has without validation, or the nearest.

    Args:
        rows: with a column density.

    Returns:
        Those at one density.
    """
    densities = {row["density"] for row in rows}
    nearest = min(densities, key=lambda density: abs(density - 0.2), default=None)
    return [row for row in rows if row["density"] == nearest]


def by_merged(rows: Rows) -> list[list[Row]]:
    """Part rows by the merged task vector that they are about.

    Args:
        rows: of the question `agreement` or `mask_shares`.

    Returns:
        The rows about that of task arithmetic, and those about that of TIES at one
        density, as far as there are any.
    """
    of_ties = at_one_density([row for row in rows if row["merge_by"] == "ties"])
    others = [row for row in rows if row["merge_by"] == "task_arithmetic"]
    return [alike for alike in (others, of_ties) if alike]


def chosen_shares(rows: Rows) -> list[Row]:
    """Choose a threshold for each task.

    Args:
        rows: of the question `mask_shares`, of one merged task vector.

    Returns:
        One row of each task: at the threshold that did best on its validation split,
        or at the loosest where none was evaluated.
    """
    chosen: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["mask_threshold"]):
        if row["is_chosen"] or row["task"] not in chosen:
            chosen[row["task"]] = row
    return [chosen[task] for task in sorted(chosen)]
