"""Pre-flight: what a merge will do and what stands in its way, from headers alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mergegrid.cohort import require
from mergegrid.errors import (
    InputError,
    LayoutError,
    MergegridError,
    MissingPrerequisiteError,
    StorageError,
)
from mergegrid.footprint import bytes_to_read, peak_memory, total_flops
from mergegrid.inputs import Inputs
from mergegrid.layout import Layout, differences, draft_layout
from mergegrid.measured import Measured, is_covered
from mergegrid.methods.method import Recipe
from mergegrid.obstacles import noted, quantized, too_little_room
from mergegrid.safetensors_output import plan_shards
from mergegrid.streaming import output_infos
from mergegrid.variant import Variant, make_variant


@dataclass(frozen=True)
class Costs:
    """What a merge is expected to take."""

    bytes_to_read: int
    """From files, as often as they are read."""

    bytes_to_write: int
    """To files."""

    files: int
    """How many are written."""

    memory: int
    """About the most bytes that are held at a time, apart from the program itself."""

    flops: int
    """Operations; a multiply-add counts as two."""

    paper_flops: float
    """The same by the Realistic Evaluation paper's Table 3; 0 without a formula."""


@dataclass(frozen=True)
class Preflight:
    """What is known before any tensor is read."""

    faults: tuple[str, ...]
    """Everything that stands in the way, in words."""

    error: MergegridError | None
    """What a merge fails with."""

    notes: tuple[str, ...]
    """What does not, but should be known."""

    layout: Layout | None = None
    """What is merged; None where models do not fit."""

    others: tuple[str, ...] = ()
    """Parameters that their method does not cover, or that lack a statistic."""

    vocabulary: tuple[str, ...] = ()
    """Tensors that are merged in part, in words."""

    costs: Costs | None = None
    """What it takes; None where that cannot be told."""


@dataclass(frozen=True)
class Written:
    """What is written instead of merged models."""

    bytes: int
    """At the most."""

    files: int


def preflight(
    inputs: Inputs, out: Path | None = None, written: Written | None = None
) -> Preflight:
    """Look at headers for everything that can go wrong, and count what a merge takes.

    Args:
        inputs: everything that is read.
        out: where the merged model shall be, to ask for room.
        written: what is written there; None for merged models.

    Returns:
        What was found.
    """
    models = {
        label: inputs.sources[found.text] for label, found in inputs.models().items()
    }
    vocabulary = inputs.file.vocabulary
    found: list[MergegridError] = [*quantized(inputs)]
    known = Preflight((), None, noted(inputs))
    try:
        layout = draft_layout(models, inputs.reference_source(), vocabulary)
    except MergegridError as error:
        listed = [f"{fault}." for fault in differences(models, vocabulary)]
        faults = (*map(str, found), *(listed or [str(error)]))
        return replace(known, faults=faults, error=_joined([*found, error]))
    try:
        known = _counted(inputs, layout, known, found)
    except MergegridError as error:
        found.append(error)
    if written is not None and known.costs is not None:
        costs = replace(known.costs, bytes_to_write=written.bytes, files=written.files)
        known = replace(known, costs=costs)
    if out is not None and known.costs is not None:
        found += too_little_room(out, known.costs.bytes_to_write)
    faults = tuple(map(str, found))
    return replace(known, layout=layout, faults=faults, error=_joined(found))


def _counted(
    inputs: Inputs, layout: Layout, known: Preflight, found: list[MergegridError]
) -> Preflight:
    of_tensors = inputs.file.recipes(layout.infos)
    recipes = {name: of_tensors[name] for name in layout.parameters()}
    measured = Measured(inputs.statistic_sources(), [*inputs.experts], layout)
    variants = _variants(recipes, len(inputs.experts))
    has_pretrained = inputs.pretrained is not None
    for variant in {id(each): each for each in variants.values()}.values():
        try:
            require(variant, measured, has_pretrained=has_pretrained)
        except MergegridError as error:
            found.append(error)
    others = tuple(
        name
        for name, variant in variants.items()
        if not is_covered(variant.method, layout.shapes[name])
        or measured.lacks(variant.method, variant.options, name, variant.members)
    )
    return replace(
        known,
        others=others,
        vocabulary=tuple(_cut(inputs, layout)),
        costs=_costs(inputs, layout, measured, recipes, variants),
    )


def _variants(recipes: Mapping[str, Recipe], experts: int) -> dict[str, Variant]:
    members = tuple(range(experts))
    each = {
        id(recipe): make_variant(recipe, members, experts)
        for recipe in recipes.values()
    }
    return {name: each[id(recipe)] for name, recipe in recipes.items()}


def _costs(
    inputs: Inputs,
    layout: Layout,
    measured: Measured,
    recipes: Mapping[str, Recipe],
    variants: Mapping[str, Variant],
) -> Costs:
    experts = [*inputs.expert_sources().values()]
    reference = inputs.reference_source()
    infos = output_infos(layout, inputs.output_dtype())
    models = len(inputs.file.tasks)
    flops, paper_flops = total_flops(layout, measured, recipes, len(experts))
    return Costs(
        bytes_to_read(
            experts,
            reference,
            measured,
            layout,
            variants,
            running_variance=inputs.file.running_variance,
        ),
        models * sum(info.size for info in infos.values()),
        models * len(plan_shards(infos, inputs.file.most_bytes)),
        peak_memory([*experts, reference], measured, layout, variants),
        flops,
        paper_flops,
    )


def _cut(inputs: Inputs, layout: Layout) -> Iterator[str]:
    whose = "pretrained model" if inputs.pretrained else "first expert"
    for name, info in layout.infos.items():
        if layout.shapes[name] != info.shape:
            yield (
                f"{name}: the first {layout.shapes[name][0]:,} of {info.shape[0]:,} "
                f"rows are merged, the rest is the {whose}'s"
            )


def _joined(found: list[MergegridError]) -> MergegridError | None:
    if len(found) < 2:
        return found[0] if found else None
    kinds = {type(error) for error in found}
    kind = kinds.pop() if len(kinds) == 1 else InputError
    simple = {InputError, LayoutError, MissingPrerequisiteError, StorageError}
    text = " ".join(map(str, found))
    return kind(text) if kind in simple else InputError(text)
