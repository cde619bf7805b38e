"""Reports: what a merged model was made from, as `merge.json` beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergegrid.checkpoints import REPORT
from mergegrid.digests import Digests
from mergegrid.errors import InputError
from mergegrid.inputs import Inputs
from mergegrid.methods.method import Recipe
from mergegrid.methods.options import Option
from mergegrid.obstacles import noted
from mergegrid.places import Place
from mergegrid.provenance import provenance

Report = dict[str, Any]
"""Plain values."""


def make_report(
    inputs: Inputs, digests: Digests, recipes: Mapping[str, Recipe]
) -> Report:
    """Say what a merged model was made from; wait for what identifies it.

    Args:
        inputs: everything that was read.
        digests: computes what identifies files.
        recipes: parameter to its recipe.

    Returns:
        Recipe, seed, sources and provenance.
    """
    file = inputs.file
    identity = digests.identity
    return {
        **_recipes(inputs, recipes),
        "seed": file.seed,
        "vocabulary": file.vocabulary,
        "running_variance": file.running_variance,
        "experts": {name: identity(found) for name, found in inputs.experts.items()},
        "pretrained": inputs.pretrained and identity(inputs.pretrained),
        "statistics": {
            need.value: {owner: identity(found) for owner, found in given.items()}
            for need, given in inputs.statistics.items()
        },
        "notes": list(noted(inputs)),
        "file": file.text,
        "provenance": provenance(),
    }


def write_report(report: Report, directory: Path) -> None:
    """Write a report beside a model.

    Args:
        report: from `make_report`.
        directory: where the model is.
    """
    text = json.dumps(report, indent=2, allow_nan=False)
    (directory / REPORT).write_text(f"{text}\n", encoding="utf-8")


def origin_lines(place: Place) -> list[str]:
    """Say in a few lines what a report says.

    Args:
        place: the report.

    Returns:
        The method, and the models that went in.

    Raises:
        InputError: if it is none.
    """
    try:
        made = json.loads(place.bytes())
        recipe = made["recipe"]
        lines = [f"merged by {spelt(recipe['method'], recipe['options'])}"]
        if made.get("task") is not None:
            lines.append(f"    for the task of expert {made['task']}")
        for name, expert in made["experts"].items():
            lines.append(f"    expert {name}: {expert['path']}")
        if made["pretrained"]:
            lines.append(f"    pretrained: {made['pretrained']['path']}")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{place.text} is not the report of a merge.") from None
    return lines


def spelt(method: str, options: Mapping[str, Option]) -> str:
    """Write a method and its options on one line.

    Args:
        method: the method's name.
        options: its options.

    Returns:
        The line.
    """
    return " ".join([method, *(f"{name}={value}" for name, value in options.items())])


def _recipes(inputs: Inputs, recipes: Mapping[str, Recipe]) -> Report:
    made_by = inputs.file.made_by
    if isinstance(made_by, Recipe):
        return {"recipe": made_by.identity()}
    # mergekit's methods by mergekit's names, and what became of them.
    grouped: dict[int, tuple[Recipe, list[str]]] = {}
    for name, recipe in recipes.items():
        grouped.setdefault(id(recipe), (recipe, []))[1].append(name)
    return {
        "recipe": {"method": f"mergekit's {made_by.file.method}", "options": {}},
        "recipes": [
            {**recipe.identity(), "parameters": names}
            for recipe, names in grouped.values()
        ],
    }
