"""Recipe files: one merge of models on disk, written as YAML."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from mergegrid.checkpoints import (
    REPORT,
    Checkpoint,
    find_checkpoint,
    new_directory,
    write_parameters,
)
from mergegrid.documents import Section, read_mapping, validated
from mergegrid.engine import merge, read_recipe
from mergegrid.methods.method import Need, Recipe
from mergegrid.provenance import provenance


class StatisticFiles(Section):
    """Where statistics are; norms and trim thresholds need no files."""

    fisher: dict[str, Path] = Field(default_factory=dict)
    """Expert to its diagonal Fisher information, by name of the parameter."""

    gram: dict[str, Path] = Field(default_factory=dict)
    """Expert to its Gram matrices, by name of the weight."""


class RecipeFile(Section):
    """What to merge, and how. Paths are relative to the file's directory."""

    method: str
    """The method's name."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Its options; those left out have their default."""

    experts: dict[str, Path] = Field(min_length=1)
    """Name to model: a safetensors file, or a directory."""

    pretrained: Path | None = None
    """What the experts were fine-tuned from, for methods that need it."""

    statistics: StatisticFiles = StatisticFiles()
    """What was measured on the experts, for methods that need it."""

    seed: int = 0
    """For methods that draw at random."""


def merge_file(path: Path, out: Path) -> Recipe:
    """Carry a recipe file out.

    Args:
        path: the recipe file.
        out: the directory to make, with the merged model, what the pretrained one (or
            else the first expert) has besides weights, and a report of what went in. It
            appears when everything is in it, or not at all.

    Returns:
        The recipe, defaults spelt out.

    Raises:
        InputError: if the file, a model or a statistic is wrong.
        LayoutError: if models or statistics do not fit one another.
        NonFiniteError: if there is NaN or infinity in one of them.
        MissingPrerequisiteError: if the method needs something that is not given.
        StorageError: if the merged model cannot be written.
    """
    file = validated(RecipeFile, read_mapping(path), source=str(path))
    recipe = read_recipe({"method": file.method, "options": file.options})
    experts = _find(path, file.experts)
    pretrained = _find(path, {"": file.pretrained} if file.pretrained else {})
    statistics = {
        Need.FISHER: _find(path, file.statistics.fisher),
        Need.GRAM: _find(path, file.statistics.gram),
    }
    with new_directory(out) as directory:
        merged = merge(
            {name: checkpoint.read() for name, checkpoint in experts.items()},
            recipe,
            pretrained[""].read() if pretrained else None,
            {
                need: {name: checkpoint.read() for name, checkpoint in found.items()}
                for need, found in statistics.items()
            },
            seed=file.seed,
        )
        write_parameters(directory, merged)
        _copy_companions([*pretrained.values(), *experts.values()], directory)
        report = {
            "recipe": recipe.identity(),
            "seed": file.seed,
            "experts": _described(file.experts, experts),
            "pretrained": _described({"": file.pretrained}, pretrained).get(""),
            "statistics": {
                "fisher": _described(file.statistics.fisher, statistics[Need.FISHER]),
                "gram": _described(file.statistics.gram, statistics[Need.GRAM]),
            },
            "provenance": provenance(),
        }
        text = json.dumps(report, indent=2, allow_nan=False)
        (directory / REPORT).write_text(f"{text}\n", encoding="utf-8")
    return recipe


def _find(recipe: Path, paths: Mapping[str, Path]) -> dict[str, Checkpoint]:
    return {
        name: find_checkpoint(recipe.parent / path.expanduser())
        for name, path in paths.items()
    }


def _copy_companions(checkpoints: list[Checkpoint], directory: Path) -> None:
    source = next((found for found in checkpoints if found.is_directory), None)
    for companion in source.companions() if source else ():
        shutil.copyfile(companion, directory / companion.name)


def _described(
    paths: Mapping[str, Path | None], checkpoints: Mapping[str, Checkpoint]
) -> dict[str, dict[str, Any]]:
    # Paths as they were written: a report says nothing about the machine.
    return {
        name: {"path": str(paths[name]), "sha256": checkpoint.digests()}
        for name, checkpoint in checkpoints.items()
    }
