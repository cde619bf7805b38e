"""The section about storage; it appears only if there are models for tasks."""

from dashboards import stored
from dashboards.captions import TEXTS
from dashboards.parts import Answers, asked, figure_grid, section_html


def storage(answers: Answers) -> str:
    """Show how much accuracy is kept for how much storage.

    Args:
        answers: question to its answer.

    Returns:
        HTML, empty if there is nothing to show.
    """
    rows = answers["storage"].rows
    if not any(row["kind"] == "per_task" for row in rows):
        return ""
    text = TEXTS["storage"]
    drawn = [
        (stored.storage_against_accuracy(rows, column), text[column])
        for column in stored.MEASURES
    ]
    sizes = answers["storage_by_size"].rows
    if len({row["size"] for row in sizes}) > 1:
        drawn.append((stored.storage_by_size(sizes), text["sizes"]))
    details = asked(answers, "storage", "storage_by_size")
    return section_html("storage", figure_grid(*drawn), details)
