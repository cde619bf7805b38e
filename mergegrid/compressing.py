"""Compressing stored experts: from files to a directory that each is restored from."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mergegrid.checkpoints import find_checkpoint
from mergegrid.cohort import Cohort
from mergegrid.companions import find_companions, write_companions
from mergegrid.compressed_files import CompressedFiles
from mergegrid.compressed_form import (
    COMPANIONS,
    DESCRIPTION,
    FORMAT,
    PRETRAINED,
    STATISTICS,
    Description,
    PretrainedModel,
    StoredRecipe,
    StoredTensor,
)
from mergegrid.compression_plan import recipe_to_compress
from mergegrid.digests import Digests
from mergegrid.directories import new_directory
from mergegrid.finish import Finishing
from mergegrid.inputs import Inputs
from mergegrid.layout import Layout
from mergegrid.merge_report import make_report
from mergegrid.merging import check_directory, make_cohort
from mergegrid.model_card import write_compressed_card
from mergegrid.parameters import Role
from mergegrid.pieces import ENTRIES
from mergegrid.places import Place
from mergegrid.rounding import warn_of_rounding
from mergegrid.safetensors_output import SafetensorsSink
from mergegrid.splits import EmitSplit, Split, Splitting
from mergegrid.stored_parts import (
    Numbers,
    Part,
    compressed_parts,
    entries_of,
    experts_part,
)
from mergegrid.streaming import Progress, output_infos


@dataclass(frozen=True)
class Compression:
    """What compressing has brought."""

    parts: list[Part]
    """What is needed to restore the experts, the pretrained model included."""

    experts: Part
    """What the experts themselves take."""


def compress_stored(
    inputs: Inputs,
    out: Path,
    *,
    with_pretrained: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Compression:
    """Compress experts, a stretch at a time.

    Args:
        inputs: everything that is read.
        out: the directory to make; see `mergegrid.compressed_form`. It appears when
            everything is in it, or not at all.
        with_pretrained: whether the pretrained model is stored in it. Otherwise it is
            referred to, by its path and by what identifies its files.
        force: whether it takes the place of a directory that is there.
        progress: told how far it is.

    Returns:
        What it takes.

    Raises:
        InputError: if `out` is not to be made, or there is nothing to compress.
    """
    check_directory(out)
    recipe = recipe_to_compress(inputs)
    with (
        new_directory(out, force=force, keep=inputs.local_files()) as made,
        Digests() as digests,
    ):
        cohort = make_cohort(inputs)
        warn_of_rounding(cohort, [cohort.variant(recipe)])
        for checkpoint in inputs.checkpoints():
            digests.start(checkpoint)
        splitting = Splitting(cohort, recipe)
        tasks = _rows(cohort, inputs)
        with CompressedFiles(
            made, tasks, entries_of(cohort), splitting.splitter
        ) as files:
            splitting.run(_followed(files.add, cohort, progress))
            files.finish()
            files.add_plain(_running_statistics(cohort, inputs), recipe.options)
        if with_pretrained:
            _copy_pretrained(inputs, made / PRETRAINED)
            pretrained = _stored_pretrained(digests, made)
        else:
            pretrained = _named_pretrained(inputs, digests, out)
        factors = splitting.norm_factors()
        parameters = dict.fromkeys(cohort.parameters, recipe)
        description = Description(
            format=FORMAT,
            recipe=StoredRecipe(**recipe.identity()),
            tasks=tuple(tasks),
            norm_factors=tuple(factors[row] for row in tasks.values()),
            most_bytes=inputs.file.most_bytes,
            pretrained=pretrained,
            tensors=_tensors(cohort.layout, inputs.output_dtype()),
            report=make_report(inputs, digests, parameters),
        )
        described = description.model_dump(mode="json")
        text = json.dumps(described, indent=1, ensure_ascii=False, allow_nan=False)
        (made / DESCRIPTION).write_text(f"{text}\n", encoding="utf-8")
        if companions := find_companions(inputs):
            (made / COMPANIONS).mkdir()
            write_companions(companions, made / COMPANIONS, inputs.output_dtype())
        write_compressed_card(description.report, description.tasks, made)
        numbers = _numbers(cohort, inputs)
        stored = sum(_size(inputs.experts[task].files) for task in tasks)
        return Compression(
            compressed_parts(recipe, files, numbers),
            experts_part(numbers, files, stored),
        )


def _numbers(cohort: Cohort, inputs: Inputs) -> Numbers:
    layout = cohort.layout
    entries = sum(layout.infos[name].entries for name in cohort.parameters)
    return Numbers(entries, _size(inputs.reference().files))


def _rows(cohort: Cohort, inputs: Inputs) -> dict[str, int]:
    rows = {expert: row for row, expert in enumerate(cohort.experts)}
    return {task: rows[task] for task in inputs.file.tasks if task is not None}


def _followed(emit: EmitSplit, cohort: Cohort, progress: Progress | None) -> EmitSplit:
    total = sum(entries_of(cohort).values())
    done = 0

    def emit_and_tell(name: str, split: Split) -> None:
        nonlocal done
        emit(name, split)
        done += split.masks.shape[1]
        if progress is not None:
            progress(done, total)

    return emit_and_tell


def _running_statistics(cohort: Cohort, inputs: Inputs) -> dict[str, Tensor]:
    finishing = Finishing(cohort, inputs.output_dtype())
    roles = cohort.layout.roles
    return {
        f"{STATISTICS}{name}": finishing.averaged(name)
        for name, first in cohort.layout.first_name.items()
        if roles[name] is Role.AVERAGED and first == name
    }


def _copy_pretrained(inputs: Inputs, directory: Path) -> None:
    source = inputs.reference_source()
    directory.mkdir()
    with SafetensorsSink(directory, source.infos, inputs.file.most_bytes) as sink:
        for name, info in source.infos.items():
            for start in range(0, info.entries, ENTRIES):
                stop = min(start + ENTRIES, info.entries)
                sink.write(name, start, source.read(name, start, stop))


def _stored_pretrained(digests: Digests, made: Path) -> PretrainedModel:
    copied = replace(find_checkpoint(str(made / PRETRAINED)), text=PRETRAINED)
    identity = digests.identity(copied)
    return PretrainedModel(is_stored=True, path=PRETRAINED, identity=identity)


def _named_pretrained(inputs: Inputs, digests: Digests, out: Path) -> PretrainedModel:
    found = inputs.reference()
    beside: str | None = None
    if found.files[0].is_local and found.revision is None:
        path = Path(found.directory.path if found.is_directory else found.files[0].path)
        beside = os.path.relpath(path.resolve(), out.resolve())
    identity = digests.identity(found)
    return PretrainedModel(
        is_stored=False, path=found.text, beside=beside, identity=identity
    )


def _tensors(layout: Layout, dtype: torch.dtype | None) -> dict[str, StoredTensor]:
    return {
        name: StoredTensor(
            shape=info.shape,
            dtype=str(info.dtype).removeprefix("torch."),
            role=layout.roles[name],
            entries=layout.entries(name),
            same_as=None
            if layout.first_name[name] == name
            else layout.first_name[name],
        )
        for name, info in output_infos(layout, dtype).items()
    }


def _size(files: Iterable[Place]) -> int:
    return sum(file.size() for file in files)
