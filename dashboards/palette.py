"""How methods look and are called: the same in every figure and table.

Related methods have related colours: ochre without prerequisites, blue for arithmetic
on task vectors, violet for masks, pink for singular vectors, warm or green for those
with statistics, teal and lime for what is learned. References are grey. Colours alone
cannot tell so many methods apart, least of all to the colour-blind: methods whose
points have one shape have colours that differ to everybody, on white pages and on dark
ones.
"""

import hashlib
from collections.abc import Sequence

from dashboards.transductive import MARK, unmarked
from mergegrid.methods import METHODS

INK = "#1c2430"
MUTED = "#5d6879"
FAINT = "#c9d0da"
GRID = "#e9edf2"
FRONT = "#dfe4ea"
ROLES = {"held_in": "#1b5fa8", "generalization": "#c4620f"}
"""Kind of task to its colour."""

STAGES = {
    "data": "#eceff3",
    "pretrain": "#c3cbd6",
    "train": "#9aa5b5",
    "multitask": "#6d7889",
    "fisher": "#2fa878",
    "gram": "#d9693a",
    "gradient": "#8c5a55",
    "trim": "#3d5bb0",
    "norms": "#e3c23a",
    "few_shot": "#5fe0a0",
    "learn": "#7d35d6",
    "merge": "#a11f66",
    "evaluate": "#7ab8f0",
}
"""Stage of the pipeline to its colour, in the order in which stages run."""

KINDS = {
    "embedding": "#cd8a2c",
    "attention": "#235a94",
    "cross-attention": "#8c164d",
    "feed-forward": "#1faf74",
    "norm": "#8a8f9c",
    "other": "#542e10",
}
"""Kind of layer to its colour, in the order in which models have them."""

LOOKS = {
    "average": ("#7d6516", "circle"),
    "slerp": ("#a08127", "cross"),
    "mlerp": ("#c28600", "square"),
    "task_arithmetic": ("#3566a2", "triangle-up"),
    "dare": ("#4a9bc7", "square"),
    "ties": ("#183a96", "square"),
    "dare_ties": ("#405aca", "star"),
    "della": ("#0f627b", "square"),
    "breadcrumbs": ("#1e7793", "cross"),
    "model_stock": ("#5976c5", "circle"),
    "pcb": ("#004f70", "circle"),
    "consensus": ("#213c70", "triangle-down"),
    "tall_masks": ("#5a3fd0", "cross"),
    "magnitude_masking": ("#8970ab", "triangle-down"),
    "magnitude_pruning": ("#9788b1", "star"),
    "emr": ("#4a1fb0", "triangle-up"),
    "tsv_m": ("#b2536e", "star"),
    "iso_c": ("#be7d9c", "circle"),
    "iso_cts": ("#7a0549", "cross"),
    "wudi": ("#a17383", "triangle-down"),
    "knots": ("#864764", "triangle-up"),
    "fisher": ("#00482c", "star"),
    "regmean": ("#c23200", "triangle-down"),
    "mats": ("#752b58", "star"),
    "supermerge": ("#00857a", "triangle-right"),
    "hierarchical_supermerge": ("#00443c", "triangle-right"),
    "adamerging": ("#7d9a00", "triangle-right"),
    "adamerging_pp": ("#4c5c00", "triangle-right"),
    "pretrained": ("#7b8494", "diamond"),
    "individual": ("#3a4250", "hourglass"),
    "multitask": ("#565f6d", "bowtie"),
    "few_shot": ("#868f9e", "bowtie"),
    "few_shot_average": ("#868f9e", "hourglass"),
}
"""Method to its colour and the shape of its points."""

MERGINGS = {
    "average": (LOOKS["average"][0], "circle"),
    "trimmed": ("#4a9bc7", "square"),
    "elected": ("#c2407c", "triangle-up"),
    "both": (LOOKS["ties"][0], "diamond"),
}
"""What is done before task vectors are averaged, to its colour and shape; `both` is
TIES."""

LEVELS = ("#0b2c5c", "#1c4f8f", "#2f77c2", "#5c9fdb", "#92c2ea")
"""From the most entries, or the loosest threshold, to the fewest."""

SEQUENTIAL = ("#f7f3ea", "#b8d4e8", "#5b9bd0")
"""From little to much."""

DIVERGING = ("#e59b4c", "#f7f3ea", "#5b9bd0")
"""From less, over the same, to more."""

_SPARE = ("#6a5acd", "#008b8b", "#b03060", "#6b8e23", "#8b5a2b", "#4682b4")
_LEGIBLE = 4.5  # contrast that WCAG asks of small text
_REFERENCES = {
    "pretrained": "Pretrained",
    "individual": "Individual experts",
    "multitask": "Multitask",
    "few_shot": "Few-shot multitask",
    "few_shot_average": "Few-shot from the average",
}


def color(method: str) -> str:
    """Look up a method's colour; one that is not known always gets the same.

    Args:
        method: its name in the results, marked or not; so for what follows.

    Returns:
        A hexadecimal colour.
    """
    name = unmarked(method)
    return LOOKS[name][0] if name in LOOKS else _spare(name)


def symbol(method: str) -> str:
    """Look up the shape of a method's points.

    Args:
        method: its name in the results.

    Returns:
        plotly's name of the shape.
    """
    name = unmarked(method)
    return LOOKS[name][1] if name in LOOKS else "pentagon"


def faded(hue: str) -> str:
    """Make a colour half transparent.

    Args:
        hue: a hexadecimal colour.

    Returns:
        A colour for CSS.
    """
    red, green, blue = (int(hue[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.45)"


def legible(hue: str) -> str:
    """Darken a colour until small text in it can be read on white.

    Args:
        hue: a hexadecimal colour.

    Returns:
        The colour, or the closest mixture with `INK` that has a contrast of 4.5.
    """
    parts = [int(hue[at : at + 2], 16) for at in (1, 3, 5)]
    ink = [int(INK[at : at + 2], 16) for at in (1, 3, 5)]
    mixtures = (
        [(a * (10 - tenths) + b * tenths) / 10 for a, b in zip(parts, ink, strict=True)]
        for tenths in range(11)
    )
    mixed = next(m for m in mixtures if 1.05 / (_luminance(m) + 0.05) >= _LEGIBLE)
    return "#{:02x}{:02x}{:02x}".format(*map(round, mixed))


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
        Its title, such as "MaTS", with the mark of the name.
    """
    name = unmarked(method)
    mark = MARK if name != method else ""
    if name in METHODS:
        return METHODS[name].title + mark
    return _REFERENCES.get(name, name.replace("_", " ")) + mark


def stage_title(stage: str) -> str:
    """Look up how a stage is written for people.

    Args:
        stage: its name in the results.

    Returns:
        Its title, such as "few-shot".
    """
    return stage.replace("_", "-")


def _luminance(parts: Sequence[float]) -> float:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (part / 255 for part in parts)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _spare(name: str) -> str:
    return _SPARE[hashlib.sha256(name.encode()).digest()[0] % len(_SPARE)]
