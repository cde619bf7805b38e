"""Rows of the results ledger about storage: what it takes to keep the models of a cell.

Methods with a model for each task are compressed, to no files, when they are merged;
models for reference are counted as they are. What that costs is not the merge's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from mergegrid.bits import part_bits
from mergegrid.measured import Statistics
from mergegrid.methods.method import Recipe
from mergegrid.parameters import Parameters
from mergegrid.splits import SPLITTERS
from mergegrid.steps import Scored
from mergegrid.stored_parts import Numbers, Part, measure_parts, numbers_of
from tasks.workspace import Workspace

Row = dict[str, Any]


def merged_parts(
    workspace: Workspace,
    model: nn.Module,
    recipe: Recipe,
    experts: Mapping[str, Parameters],
    pretrained: Parameters,
    statistics: Statistics,
    *,
    subset: Collection[str],
    seed: int,
) -> list[Part]:
    """Measure what the models of a recipe take.

    Args:
        workspace: the experiment at its root.
        model: any model of the experiment.
        recipe: the recipe.
        experts: the experts by name.
        pretrained: what they were fine-tuned from.
        statistics: what was measured on them.
        subset: those that are merged.
        seed: of the cell.

    Returns:
        The parts; none for a method with one model for all tasks, which takes what the
        pretrained model does.
    """
    if recipe.method not in SPLITTERS:
        return []
    return measure_parts(
        experts,
        recipe,
        pretrained,
        statistics,
        subset=subset,
        seed=seed,
        device=workspace.device,
        beside=_beside(model, pretrained),
    )


def reference_parts(
    workspace: Workspace, model: nn.Module, entry: Scored, own: Parameters
) -> list[Part]:
    """Count what a model for reference takes.

    Args:
        workspace: the experiment at its root.
        model: the model.
        entry: its scores.
        own: its merged parameters.

    Returns:
        The one part of a single model; an expert's numbers, and those that it shares
        with all others.
    """
    everything = numbers_of(own).plus(_beside(model, own))
    if entry.cell.method != "individual":
        bits = part_bits(everything.entries, 0, 1, "single")["model"]
        return [Part("model", bits, everything.bytes)]
    pretrained = workspace.parameters(workspace.steps.pretrained.key)
    trained = numbers_of(
        {name: t for name, t in own.items() if not t.equal(pretrained[name])}
    )
    frozen = everything.minus(trained)
    return [
        Part(
            "experts",
            part_bits(trained.entries, 0, 1, "individual")["experts"],
            trained.bytes,
        ),
        Part(
            "frozen", part_bits(frozen.entries, 0, 1, "single")["model"], frozen.bytes
        ),
    ]


def storage_rows(key: str, parts: Sequence[Part]) -> list[Row]:
    """Say what a cell takes to store.

    Args:
        key: the cell's.
        parts: what it consists of.

    Returns:
        Rows of `storage`.
    """
    return [{"table": "storage", "cell": key, **asdict(part)} for part in parts]


def _beside(model: nn.Module, merged: Parameters) -> Numbers:
    """Count the numbers of a model that are not merged, and frozen therefore."""
    rest = numbers_of(dict(model.named_parameters())).minus(numbers_of(merged))
    # Running statistics are merged, but are no parameters of a module.
    return Numbers(max(rest.entries, 0), max(rest.bytes, 0))
