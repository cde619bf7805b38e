"""How methods look and are called: the same in every figure and table.

Related methods have related colours: ochre without prerequisites, blue for arithmetic
on task vectors, violet for masks, pink for singular vectors, warm or green for those
with statistics. References are grey.
"""

import hashlib

from mergegrid.methods import METHODS

INK = "#1c2430"
MUTED = "#5d6879"
FAINT = "#c9d0da"
GRID = "#e9edf2"
ROLES = {"held_in": "#1b5fa8", "generalization": "#c4620f"}
"""Kind of task to its colour."""

STAGES = {
    "data": "#dfe3e9",
    "pretrain": "#c2cad5",
    "train": "#98a3b3",
    "multitask": "#6f7a8a",
    "fisher": "#2c9a74",
    "gram": "#e08e5c",
    "gradient": "#b5546b",
    "trim": "#174a86",
    "norms": "#d1a730",
    "merge": "#8d2a67",
    "evaluate": "#62b0dd",
}
"""Stage of the pipeline to its colour, in the order in which stages run."""

COLORS = {
    "average": "#a07a1f",
    "slerp": "#d1a730",
    "mlerp": "#c99a1b",
    "task_arithmetic": "#2f7fc1",
    "dare": "#62b0dd",
    "ties": "#174a86",
    "dare_ties": "#3f5fa8",
    "della": "#86c5e8",
    "breadcrumbs": "#4f9ab8",
    "model_stock": "#5b7fd1",
    "pcb": "#0f6e8c",
    "consensus": "#6f86c9",
    "tall_masks": "#7a5cc0",
    "magnitude_masking": "#a58ad8",
    "magnitude_pruning": "#c3b1e6",
    "emr": "#5a3e9e",
    "tsv_m": "#c2528b",
    "iso_c": "#d987b0",
    "iso_cts": "#a8326e",
    "wudi": "#e0a3b8",
    "knots": "#7c2f55",
    "fisher": "#2c9a74",
    "regmean": "#cf4a1f",
    "mats": "#8d2a67",
    "pretrained": "#7b8494",
    "individual": "#3a4250",
    "multitask": "#565f6d",
}
"""Method to its colour."""

_SPARE = ("#6a5acd", "#008b8b", "#b03060", "#6b8e23", "#8b5a2b", "#4682b4")
_REFERENCES = {
    "pretrained": "Pretrained",
    "individual": "Individual experts",
    "multitask": "Multitask",
}


def color(method: str) -> str:
    """Look up a method's colour; one that is not known always gets the same.

    Args:
        method: its name in the results.

    Returns:
        A hexadecimal colour.
    """
    return COLORS.get(method, _spare(method))


def faded(hue: str) -> str:
    """Make a colour half transparent.

    Args:
        hue: a hexadecimal colour.

    Returns:
        A colour for CSS.
    """
    red, green, blue = (int(hue[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.45)"


def stage_color(stage: str) -> str:
    """Look up a stage's colour; one that is not known always gets the same.

    Args:
        stage: its name in the results.

    Returns:
        A hexadecimal colour.
    """
    return STAGES.get(stage, _spare(stage))


def title(method: str) -> str:
    """Look up how a method is written for people.

    Args:
        method: its name in the results.

    Returns:
        Its title, such as "MaTS".
    """
    if method in METHODS:
        return METHODS[method].title
    return _REFERENCES.get(method, method.replace("_", " "))


def _spare(name: str) -> str:
    return _SPARE[hashlib.sha256(name.encode()).digest()[0] % len(_SPARE)]
