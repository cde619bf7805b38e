"""Restoring: one expert's model from compressed ones, a stretch at a time."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mergegrid.checkpoints import Checkpoint, find_checkpoint
from mergegrid.compressed_form import (
    COMPANIONS,
    PRETRAINED,
    Description,
    read_description,
)
from mergegrid.compressed_task import CompressedTask
from mergegrid.depth import layer_positions, scale_at
from mergegrid.digests import Digests, Identity
from mergegrid.directories import new_directory
from mergegrid.errors import InputError, LayoutError
from mergegrid.merge_report import write_report
from mergegrid.merging import check_directory
from mergegrid.model_card import write_card
from mergegrid.parameters import Role
from mergegrid.pieces import ENTRIES
from mergegrid.safetensors_output import SafetensorsSink
from mergegrid.sources import Source, TensorInfo
from mergegrid.streaming import Progress, refuse_overflow


def restore_stored(
    directory: Path,
    task: str,
    out: Path,
    *,
    pretrained: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Restore the model for a task: the one that merging gives, bit for bit.

    Args:
        directory: the compressed experts.
        task: the expert's name.
        out: the directory to make, like a merge's. It appears when everything is in it,
            or not at all.
        pretrained: where the pretrained model is now; None for where it was.
        force: whether it takes the place of a directory that is there.
        progress: told how far it is.

    Raises:
        InputError: if something is damaged, or not there, or not what it was.
        LayoutError: if the pretrained model has other tensors.
        NonFiniteError: if a number is too large for float16.
        UnknownNameError: if there is no such task.
    """
    check_directory(out)
    description = read_description(directory)
    stored = CompressedTask(directory, description, task)
    base = find_pretrained(directory, description, pretrained)
    source = base.open()
    _check_layout(description, source, base)
    keep = [path for path in directory.rglob("*") if path.is_file()]
    keep += [Path(file.path) for file in base.files if file.is_local]
    with new_directory(out, force=force, keep=keep) as made, Digests() as digests:
        digests.start(base)
        infos = {
            name: TensorInfo(tensor.shape, tensor.type)
            for name, tensor in description.tensors.items()
        }
        with SafetensorsSink(made, infos, description.most_bytes) as sink:
            _write(description, stored, task, source, sink, progress)
        _check_identity(description.pretrained.identity, digests.identity(base))
        for companion in sorted((directory / COMPANIONS).glob("*")):
            shutil.copyfile(companion, made / companion.name)
        report = description.report | {"task": task}
        write_report(report, made)
        write_card(report, made)


def find_pretrained(
    directory: Path, description: Description, given: str | None = None
) -> Checkpoint:
    """Find what compressed experts were fine-tuned from.

    Args:
        directory: the compressed experts.
        description: what they are.
        given: where it is now; None for where it was.

    Returns:
        The pretrained model.

    Raises:
        InputError: if it is not there.
    """
    if given is not None:
        return find_checkpoint(given)
    known = description.pretrained
    if known.is_stored:
        return find_checkpoint(str(directory / PRETRAINED))
    where = str(directory / known.beside) if known.beside else known.path
    try:
        return find_checkpoint(where)
    except InputError as error:
        raise InputError(
            f"{error} The experts in {directory} were fine-tuned from it: say where it "
            f"is now with --pretrained."
        ) from None


def _write(
    description: Description,
    stored: CompressedTask,
    task: str,
    source: Source,
    sink: SafetensorsSink,
    progress: Progress | None,
) -> None:
    aliases: dict[str, list[str]] = {}
    for name, tensor in description.tensors.items():
        aliases.setdefault(tensor.same_as or name, []).append(name)
    total = sum(math.prod(description.tensors[name].shape) for name in aliases)
    done = 0
    for name, start, stretch in _stretches(description, stored, task, source):
        for alias in aliases[name]:
            sink.write(alias, start, stretch)
        done += len(stretch)
        if progress is not None:
            progress(done, total)


def _stretches(
    description: Description, stored: CompressedTask, task: str, source: Source
) -> Iterator[tuple[str, int, Tensor]]:
    positions = layer_positions(description.tensors)
    options = description.recipe.options
    norm_factor = description.norm_factors[description.number(task)]
    for name, tensor in description.tensors.items():
        if tensor.same_as is not None:
            continue
        copied = 0
        if tensor.role is Role.MERGED:
            factor = scale_at(
                name,
                positions,
                scale=options["scale"],
                depth_scale=options["depth_scale"],
                layer_scales=options["layer_scales"],
                norm_factor=norm_factor,
            )
            for start in range(0, tensor.entries, ENTRIES):
                stop = min(start + ENTRIES, tensor.entries)
                change = stored.task_vector(name, stop - start)
                base = source.read(name, start, stop).float()
                stretch = torch.add(base, change, alpha=factor).to(tensor.type)
                refuse_overflow(name, stretch)
                yield name, start, stretch
            copied = tensor.entries
        elif tensor.role is Role.AVERAGED:
            statistic = stored.running_statistic(name)
            yield name, 0, statistic
            copied = len(statistic)
        entries = source.infos[name].entries
        for start in range(copied, entries, ENTRIES):
            stop = min(start + ENTRIES, entries)
            yield name, start, source.read(name, start, stop).to(tensor.type)
    stored.end()


def _check_layout(description: Description, source: Source, base: Checkpoint) -> None:
    for name, tensor in description.tensors.items():
        info = source.infos.get(name)
        if info is None:
            raise LayoutError(f"The pretrained model {base.text} has no {name!r}.")
        if info.shape != tensor.shape:
            raise LayoutError(
                f"The pretrained model {base.text} has {name!r} with shape "
                f"{info.shape}, the experts had {tensor.shape}."
            )


def _check_identity(was: Identity, found: Identity) -> None:
    # Files may have been moved, but not changed.
    kinds = [kind for kind in ("sha256", "etag") if kind in was]
    for kind in kinds:
        if kind not in found:
            raise InputError(
                f"The pretrained model {found['path']} cannot be told from others: it "
                f"was at {was['path']} and known by the {kind} of its files. Give it "
                f"from there."
            )
        before, now = ([*each[kind].values()] for each in (was, found))
        if sorted(map(str, before)) != sorted(map(str, now)):
            raise InputError(
                f"{found['path']} is not the pretrained model that the experts were "
                f"compressed with: its files have another {kind}. That one was at "
                f"{was['path']}; say where it is now with --pretrained."
            )
