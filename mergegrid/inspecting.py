"""Inspecting stored models: what is in one, and in what two differ."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch

from mergegrid.checkpoints import REPORT, Checkpoint
from mergegrid.layout import untie
from mergegrid.merge_report import origin_lines
from mergegrid.model_config import differing_keys, read_config
from mergegrid.sources import Source, TensorInfo

ENTRIES_COMPARED = 1 << 20
"""How many entries of two tensors are compared at a time."""


class Distance(NamedTuple):
    """How far apart two tensors of one shape are."""

    entries: int
    """How many entries differ."""

    largest: float
    """The largest difference of two entries."""

    relative: float
    """L2 norm of the difference over that of the first tensor; infinite if that is 0.
    NaN where there is any."""


def model_lines(checkpoint: Checkpoint) -> Iterator[str]:
    """Say what is in a stored model.

    Args:
        checkpoint: the model.

    Yields:
        Lines: numbers by type, where it came from, tied tensors, and every tensor.
    """
    source = checkpoint.open()
    types: Counter[str] = Counter()
    for info in source.infos.values():
        types[_type(info)] += info.entries
    size = sum(file.size() for file in checkpoint.files)
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(types.items()))
    files = "file" if len(checkpoint.files) == 1 else "files"
    yield (
        f"{len(source.infos)} tensors, {types.total():,} numbers ({counts}), "
        f"{size:,} bytes in {len(checkpoint.files)} {files}"
    )
    report = checkpoint.directory.inside(REPORT)
    if checkpoint.is_directory and report.is_file():
        yield from origin_lines(report)
    groups: dict[str, list[str]] = {}
    for name, first in untie({"": source}).items():
        groups.setdefault(first, []).append(name)
    for names in groups.values():
        if len(names) > 1:
            yield f"tied: {' = '.join(names)}"
    for name, info in source.infos.items():
        yield f"{name}  {list(info.shape)} {_type(info)}"


def difference_lines(one: Checkpoint, other: Checkpoint) -> Iterator[str]:
    """Say in what two stored models differ: names, shapes, types, values and more.

    Args:
        one: a model.
        other: another.

    Yields:
        Lines, one for each tensor that differs; or one that says that none does.
    """
    first, second = one.open(), other.open()
    found = 0
    for name in sorted(first.infos.keys() | second.infos.keys()):
        line = _difference(name, first, second)
        if line is not None:
            found += 1
            yield f"{name}  {line}"
    keys = differing_keys(read_config(one) or {}, read_config(other) or {})
    if keys:
        yield f"config.json differs in {', '.join(keys)}"
    if not found:
        yield f"No tensor differs, of {len(first.infos)}."
    else:
        both = len(first.infos.keys() | second.infos.keys())
        yield f"{found} of {both} tensors differ."


def distance(name: str, first: Source, second: Source) -> Distance:
    """Compare the values of a tensor, a stretch at a time.

    Args:
        name: the tensor.
        first: a model that has it.
        second: another, that has it in the same shape.

    Returns:
        How far apart they are.
    """
    entries, largest = 0, 0.0
    of_difference, of_first = 0.0, 0.0
    stop = first.infos[name].entries
    for start in range(0, stop, ENTRIES_COMPARED):
        end = min(start + ENTRIES_COMPARED, stop)
        mine = first.read(name, start, end)
        theirs = second.read(name, start, end)
        if mine.dtype == theirs.dtype and torch.equal(mine, theirs):
            of_first += float(mine.double().square().sum())
            continue
        mine, theirs = mine.double(), theirs.double()
        apart = (mine - theirs).abs()
        # Infinity is as far from itself as NaN is from anything: look at both.
        entries += int(((mine != theirs) & ~(mine.isnan() & theirs.isnan())).sum())
        largest = max(largest, float(apart.nan_to_num(0.0, torch.inf).max()))
        of_difference += float(apart.square().sum())
        of_first += float(mine.square().sum())
    if not of_first:
        return Distance(entries, largest, torch.inf if of_difference else 0.0)
    return Distance(entries, largest, (of_difference / of_first) ** 0.5)


def _difference(name: str, first: Source, second: Source) -> str | None:
    if name not in second.infos:
        return "is in the first alone"
    if name not in first.infos:
        return "is in the second alone"
    mine, theirs = first.infos[name], second.infos[name]
    if mine.shape != theirs.shape:
        return f"{list(mine.shape)} against {list(theirs.shape)}"
    types = ""
    if mine.dtype != theirs.dtype:
        types = f"{_type(mine)} against {_type(theirs)}; "
    found = distance(name, first, second)
    if not found.entries:
        return f"{types}equal values" if types else None
    return (
        f"{types}{found.entries:,} of {mine.entries:,} entries differ, by "
        f"{found.largest:.3g} at most; relative L2 distance {found.relative:.3g}"
    )


def _type(info: TensorInfo) -> str:
    return str(info.dtype).removeprefix("torch.")
