"""Marks at the names of methods that were adapted to the inputs they are scored on.

The questions hand out rows with marked names, so that whatever writes a method's title,
in a figure or in a table, shows the mark too. Whoever shows names says what it means.
"""

from dashboards.captions import TEXTS

MARK = " \N{DAGGER}"
"""What follows the name of a transductive method."""


def marked(method: str) -> str:
    """Mark a method as transductive.

    Args:
        method: its name in the results.

    Returns:
        The name with the mark.
    """
    return f"{unmarked(method)}{MARK}"


def unmarked(method: str) -> str:
    """Undo `marked`.

    Args:
        method: a name, marked or not.

    Returns:
        The name in the results.
    """
    return method.removesuffix(MARK)


def key(shown: str) -> str:
    """Say what the mark means where it is shown.

    Args:
        shown: HTML, with figures as JSON.

    Returns:
        HTML, empty where nothing is marked.
    """
    is_there = MARK in shown or MARK.encode("unicode_escape").decode() in shown
    return f'<p class="key">{TEXTS["transductive"]["key"]}</p>' if is_there else ""
