"""Merge files: what a recipe file or one of mergekit's asks for, in the same terms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from mergegrid.documents import read_mapping, validated
from mergegrid.engine import check_task, read_recipe
from mergegrid.layout import Vocabulary
from mergegrid.measured import OF_ALL
from mergegrid.mergekit_file import is_mergekit
from mergegrid.mergekit_recipe import MergekitMerge, read_merge
from mergegrid.methods import get_method
from mergegrid.methods.method import Recipe
from mergegrid.methods.needs import Need
from mergegrid.recipe_file import RecipeFile, check_directory_names
from mergegrid.running_statistics import RunningVariance
from mergegrid.safetensors_output import MOST_BYTES
from mergegrid.sizes import parse_size

OutputType: TypeAlias = torch.dtype | Literal["widest"] | None
"""A type; the widest that the models have; or that of each tensor as it is."""


@dataclass(frozen=True)
class MergeFile:
    """What to merge, and how."""

    path: Path
    """The file."""

    text: str
    """What it says, as it is written."""

    made_by: Recipe | MergekitMerge
    """One recipe for all tensors, or mergekit's, which gives each its own."""

    experts: Mapping[str, str]
    """Name to model, as it is given."""

    pretrained: str | None
    """What the experts were fine-tuned from, or what the merged model is to be like."""

    relative_to: tuple[Path, ...]
    """Where relative paths may start from."""

    statistics: Mapping[Need, Mapping[str, str]]
    """Need to expert to what was measured; what is of all experts under one
    name of any kind."""

    seed: int = 0
    """For methods that draw at random."""

    tasks: tuple[str | None, ...] = (None,)
    """The experts whose tasks' models are wanted; None for one model for all."""

    is_nested: bool = False
    """Whether each task's model is in a directory of its own."""

    output_dtype: OutputType = None
    """The type of the merged model's floating-point tensors."""

    vocabulary: Vocabulary = "refuse"
    """What to do where models differ in their number of rows."""

    running_variance: RunningVariance = "average"
    """What becomes of running variances of normalization layers."""

    most_bytes: int = MOST_BYTES
    """How large a file may be."""

    device: str = "cpu"
    """Where arithmetic happens."""

    notes: tuple[str, ...] = ()
    """What in it has no effect."""

    def recipes(self, tensors: Iterable[str]) -> dict[str, Recipe]:
        """Give the recipe of every tensor.

        Args:
            tensors: their names.

        Returns:
            Tensor to recipe; equal ones are one object.
        """
        if isinstance(self.made_by, Recipe):
            return dict.fromkeys(tensors, self.made_by)
        return self.made_by.recipes(tensors)


def read_merge_file(path: Path) -> MergeFile:
    """Read a recipe file, or one of mergekit's: that has `merge_method` at its top.

    Args:
        path: the file.

    Returns:
        What it asks for.

    Raises:
        InputError: if something in it is wrong or not supported.
    """
    document = read_mapping(path)
    text = path.read_text(encoding="utf-8")
    if is_mergekit(document):
        return _of_mergekit(path, text)
    return _of_recipe(path, text, document)


def _of_recipe(path: Path, text: str, document: Mapping[str, Any]) -> MergeFile:
    file = validated(RecipeFile, document, source=str(path))
    recipe = read_recipe({"method": file.method, "options": file.options})
    is_nested = get_method(recipe.method).per_task and file.task is None
    if is_nested:
        check_directory_names([*file.experts])
    else:
        check_task(get_method(recipe.method), file.task, file.experts)
    statistics = {
        Need.FISHER: file.statistics.fisher,
        Need.GRAM: file.statistics.gram,
        Need.GRADIENT: file.statistics.gradient,
    }
    for need in OF_ALL:
        given = getattr(file.statistics, need.value)
        if given is not None:
            statistics[need] = {need.value: given}
    return MergeFile(
        path=path,
        text=text,
        made_by=recipe,
        experts=file.experts,
        pretrained=file.pretrained,
        relative_to=(path.parent,),
        statistics=statistics,
        seed=file.seed,
        tasks=tuple(file.experts) if is_nested else (file.task,),
        is_nested=is_nested,
        output_dtype=getattr(torch, file.output_dtype) if file.output_dtype else None,
        vocabulary=file.vocabulary,
        running_variance=file.running_variance,
        most_bytes=parse_size(file.max_shard_size),
        device=file.device,
    )


def _of_mergekit(path: Path, text: str) -> MergeFile:
    merge = read_merge(path)
    return MergeFile(
        path=path,
        text=text,
        made_by=merge,
        experts=merge.experts,
        pretrained=merge.pretrained,
        # mergekit's paths start where it is called.
        relative_to=(Path(), path.parent),
        statistics={},
        seed=merge.seed,
        output_dtype=getattr(torch, merge.dtype) if merge.dtype else "widest",
        notes=merge.unused,
    )
