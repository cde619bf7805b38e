"""Layout: what the models of a merge have in common, from headers alone.

Names, shapes and kinds of types must agree; floating-point types may differ, since
merging computes in float32. Everything that differs is listed at once. A difference in
the number of rows alone - of vocabularies that were cut or padded - can be resolved by
merging the rows that all models have.

Factors of low-rank changes are refused: what merges is their product, and the product
of merged factors is another matrix.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch

from mergegrid.errors import InputError, LayoutError
from mergegrid.parameters import Role, role
from mergegrid.sources import Source, TensorInfo, read_whole

MOST_LISTED = 20
"""How many differences a message spells out; the rest is counted."""

ENTRIES_LOOKED_AT = 64
"""How many entries of two tensors are compared before the rest is read."""

ENTRIES_COMPARED = 1 << 22
"""How many entries of two tensors are compared at a time."""

FACTOR = re.compile(r"(?:^|[._])lora[_.](?:embedding_)?(?:A|B|down|up)\b")
"""Part of the names of the factors of a low-rank change (LoRA)."""

Vocabulary: TypeAlias = Literal["refuse", "intersect"]
"""What to do where models differ in their number of rows."""


@dataclass(frozen=True)
class Layout:
    """The tensors of a merge."""

    infos: Mapping[str, TensorInfo]
    """Every tensor of the merged model by name, as in the reference."""

    first_name: Mapping[str, str]
    """Every name, sorted, to the one under which its tensor is merged."""

    roles: Mapping[str, Role]
    """What merging does with each tensor."""

    shapes: Mapping[str, tuple[int, ...]]
    """The part of each tensor that all models have: its first rows."""

    def parameters(self) -> list[str]:
        """List the parameters to merge.

        Returns:
            Each tensor once, sorted.
        """
        return [
            name
            for name, first in self.first_name.items()
            if first == name and self.roles[name] is Role.MERGED
        ]

    def entries(self, name: str) -> int:
        """Count the entries that all models have of a tensor.

        Args:
            name: the tensor's name.

        Returns:
            Their number: the leading ones, in row-major order.
        """
        return math.prod(self.shapes[name])


def make_layout(
    models: Mapping[str, Source], reference: Source, vocabulary: Vocabulary = "refuse"
) -> Layout:
    """Compare the headers of models, and the values of what is copied.

    Args:
        models: what to call each model in a message, and the model.
        reference: that one of them which the merged model is like.
        vocabulary: `intersect` merges the rows that all models have where only the
            number of rows differs; further rows are the reference's.

    Returns:
        The layout.

    Raises:
        InputError: if there is no model, or a model without parameters.
        LayoutError: if names, shapes or types differ, or the values of a tensor that
            is copied, or there are factors of low-rank changes; the message lists
            everything.
    """
    drafted = draft_layout(models, reference, vocabulary)
    copied = [name for name, role in drafted.roles.items() if role is Role.COPIED]
    faults = [*_unequal(models, copied)]
    if faults:
        raise LayoutError(_listed(faults))
    return replace(drafted, first_name=untie(models))


def draft_layout(
    models: Mapping[str, Source], reference: Source, vocabulary: Vocabulary = "refuse"
) -> Layout:
    """Compare the headers of models; no tensor is read.

    Args:
        models: see `make_layout`.
        reference: see `make_layout`.
        vocabulary: see `make_layout`.

    Returns:
        The layout, as if no tensors were tied.

    Raises:
        InputError: if there is no model, or a model without parameters.
        LayoutError: if names, shapes or types differ, or there are factors of low-rank
            changes.
    """
    if not models:
        raise InputError("There is nothing to merge: give at least one expert.")
    for model, source in models.items():
        if not source.infos:
            raise InputError(f"The {model} has no parameters.")
    faults = differences(models, vocabulary)
    if faults:
        raise LayoutError(_listed(faults))
    infos = {name: reference.infos[name] for name in sorted(reference.infos)}
    roles = {name: role(name, info.dtype) for name, info in infos.items()}
    shapes = {
        name: _common_rows([source.infos[name] for source in models.values()])
        for name in infos
    }
    return Layout(infos, {name: name for name in infos}, roles, shapes)


def untie(models: Mapping[str, Source]) -> dict[str, str]:
    """Find the tensors that several names share.

    In memory they share it, in files they are written twice: two matrices are taken for
    one if they are equal, entry by entry, in every model, and not constant.

    Args:
        models: models of one layout, by name.

    Returns:
        Every name, in sorted order, to the first of the names that share its tensor in
        every model.
    """
    sources = list(models.values())
    found: dict[str, str] = {}
    firsts: dict[object, list[str]] = {}
    for name, kind in _kinds(sources).items():
        alike = firsts.setdefault(kind, [])
        twins = (
            other for other in alike if all(_is_one(s, name, other) for s in sources)
        )
        found[name] = next(twins, name)
        if found[name] == name:
            alike.append(name)
    return found


def _kinds(sources: list[Source]) -> dict[str, object]:
    """Tell apart what cannot be tied: each tensor's start is read once, at most."""
    infos = {
        name: tuple(source.infos[name] for source in sources)
        for name in sorted(sources[0].infos)
    }
    counts = Counter(infos.values())
    kinds: dict[str, object] = {}
    for name, of_sources in infos.items():
        kinds[name] = of_sources
        info = of_sources[0]
        if counts[of_sources] > 1 and len(info.shape) > 1:
            start = sources[0].read(name, 0, min(info.entries, ENTRIES_LOOKED_AT))
            kinds[name] = of_sources, tuple(start.tolist())
    return kinds


def _is_one(source: Source, name: str, other: str) -> bool:
    identity = source.identity(name)
    if identity is not None and identity == source.identity(other):
        return True
    info = source.infos[name]
    return len(info.shape) > 1 and _equal(source, name, other, info.entries)


def _equal(source: Source, name: str, other: str, entries: int) -> bool:
    first = source.read(name, 0, min(entries, ENTRIES_LOOKED_AT))
    if not torch.equal(first, source.read(other, 0, min(entries, ENTRIES_LOOKED_AT))):
        return False
    is_constant = True
    for start in range(0, entries, ENTRIES_COMPARED):
        stop = min(start + ENTRIES_COMPARED, entries)
        part = source.read(name, start, stop)
        if not torch.equal(part, source.read(other, start, stop)):
            return False
        is_constant = is_constant and bool((part == first[0]).all())
    return not is_constant


def differences(
    models: Mapping[str, Source], vocabulary: Vocabulary = "refuse"
) -> list[str]:
    """List what keeps models from being merged, from headers alone.

    Args:
        models: see `make_layout`.
        vocabulary: see `make_layout`.

    Returns:
        Every difference in names, shapes and kinds of types, and every model that has
        factors of low-rank changes, in words.
    """
    return [*_differences(models, vocabulary), *_factors(models)]


def _differences(models: Mapping[str, Source], vocabulary: Vocabulary) -> Iterator[str]:
    (first, reference), *others = models.items()
    for model, source in others:
        for name in sorted(reference.infos.keys() ^ source.infos.keys()):
            has, lacks = (first, model) if name in reference.infos else (model, first)
            yield f"the {has} has a parameter {name!r}, the {lacks} has not"
        for name in sorted(reference.infos.keys() & source.infos.keys()):
            one, other = reference.infos[name], source.infos[name]
            if one.shape != other.shape:
                yield from _shape_difference(
                    name, (first, one), (model, other), vocabulary
                )
            elif one.dtype != other.dtype and not (
                one.dtype.is_floating_point and other.dtype.is_floating_point
            ):
                yield (
                    f"the {model} has {name!r} in {_called(other)}, the {first} has it "
                    f"in {_called(one)}"
                )


def _factors(models: Mapping[str, Source]) -> Iterator[str]:
    for model, source in models.items():
        found = sorted(name for name in source.infos if FACTOR.search(name))
        if found:
            yield (
                f"the {model} holds {len(found)} factors of low-rank changes, such as "
                f"{found[0]!r}, which merge as products alone: multiply them into the "
                f"model first"
            )


def _shape_difference(
    name: str,
    one: tuple[str, TensorInfo],
    other: tuple[str, TensorInfo],
    vocabulary: Vocabulary,
) -> Iterator[str]:
    rows_alone = (
        len(one[1].shape) == len(other[1].shape) > 0
        and one[1].shape[1:] == other[1].shape[1:]
    )
    if rows_alone and vocabulary == "intersect":
        return
    text = (
        f"the {other[0]} has {name!r} with shape {other[1].shape}, the {one[0]} has it "
        f"with shape {one[1].shape}"
    )
    if rows_alone:
        text += " (to merge the rows that all have: vocabulary: intersect)"
    yield text


def _common_rows(infos: list[TensorInfo]) -> tuple[int, ...]:
    shape = infos[0].shape
    if not shape:
        return shape
    return (min(info.shape[0] for info in infos), *shape[1:])


def _unequal(models: Mapping[str, Source], names: list[str]) -> Iterator[str]:
    (first, reference), *others = models.items()
    for model, source in others:
        for name in names:
            if not torch.equal(read_whole(reference, name), read_whole(source, name)):
                yield (
                    f"the {model} and the {first} differ in {name!r}, which holds "
                    f"{_called(source.infos[name])} and cannot be merged"
                )


def _listed(faults: list[str]) -> str:
    more = len(faults) - MOST_LISTED
    text = "; ".join(faults[:MOST_LISTED])
    ending = f"; and {more} more differences" if more > 0 else ""
    return f"{text[0].upper()}{text[1:]}{ending}."


def _called(info: TensorInfo) -> str:
    return str(info.dtype).removeprefix("torch.")
