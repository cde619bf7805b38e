"""The last pass over the parameters: merging.

Every parameter is read once, for all merges of a batch, and whatever several merges
need of it is computed once.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mergegrid.blocks import Block
from mergegrid.buffers import BUFFERS
from mergegrid.cohort import Cohort
from mergegrid.methods.average import average_of_sum
from mergegrid.methods.needs import Fallback
from mergegrid.methods.options import Option
from mergegrid.stacks import Stacks, in_order, stacked, unstacked
from mergegrid.surveying import Measurements, asks_for_norms, readers_of, survey_tensor
from mergegrid.variant import TrimKey, Variant, Whole, sparsify_key, trim_key

Emit = Callable[[int, Block, Tensor], None]
"""Takes a merge's number, a block, and what it became, flat: merged parameters, or
merged task vectors that are not yet scaled. Of methods that yield a model for each
task, [expert, entry]."""


def merge_pass(
    cohort: Cohort,
    variants_of: Mapping[str, Mapping[int, Variant]],
    found: Measurements,
    emit: Emit,
) -> None:
    """Merge every parameter, in every way that is asked for.

    Args:
        cohort: the experts.
        variants_of: the parameters, in order; for each the merges, by number.
        found: from `measure`; variant i of the batch has number i.
        emit: takes the results, parameter by parameter and stretch by stretch.
    """
    ties_left: dict[TrimKey, Tensor] = {}
    ordered = in_order(variants_of, cohort.layout.shapes)
    reading = {name: list(variants_of[name].values()) for name in ordered}

    def merge_stack(blocks: Sequence[Block], numbers: Sequence[int]) -> None:
        variants = variants_of[blocks[0].name]
        _merge_together(blocks, numbers, variants, found, emit)

    stacks = Stacks(cohort.reading.device, merge_stack)
    for piece in cohort.pieces(reading):
        block: Block | None = None
        if piece.span.start == 0:
            ties_left = {}
        variants = variants_of[piece.span.name]
        wholes = {
            number: survey_tensor(
                cohort, variant, piece, found.wholes.get(number, Whole())
            )
            if cohort.needs_whole(variant, piece.span.name)
            else found.wholes[number]
            for number, variant in variants.items()
        }
        here = Measurements(wholes, found.unchanged, found.seconds)
        by_entry = {
            number: variant
            for number, variant in variants.items()
            if not variant.method.is_whole_tensor(variant.options)
            or not cohort.covers(variant, piece.span.name)
        }
        if by_entry:
            one_by_one = all(_adds_up(variant) for variant in by_entry.values())
            for block in cohort.blocks(
                piece, ties_left, by_entry.values(), one_by_one=one_by_one
            ):
                _merge_block(cohort, block, by_entry, here, emit, stacks)
        by_tensor = {n: v for n, v in variants.items() if n not in by_entry}
        if by_tensor:
            block = cohort.whole_block(piece, {})
            block.is_last = not _asks_twice(by_tensor.values())
            _merge_block(cohort, block, by_tensor, here, emit, stacks)
        # Nothing is held of a piece while the next one is waited for.
        del piece, block
    stacks.flush()


def _asks_twice(variants: Iterable[Variant]) -> bool:
    asked = frozenset[str]().union(*(variant.method.asked for variant in variants))
    return "experts" in asked and bool(asked & {"task_vectors", "trimmed"})


def _adds_up(variant: Variant) -> bool:
    method, options = variant.method, variant.options
    return method.is_sum(options) and not sparsify_key(method, options)


def _merge_block(
    cohort: Cohort,
    block: Block,
    variants: Mapping[int, Variant],
    found: Measurements,
    emit: Emit,
    stacks: Stacks,
) -> None:
    together: dict[tuple[object, ...], list[int]] = {}
    # Smaller subsets come first, so that sums over larger ones go on from theirs.
    ordered = sorted(variants.items(), key=lambda item: len(item[1].members))
    for number, variant in ordered:
        result = _without_merging(cohort, block, variant, found)
        if result is not None:
            emit(number, block, result)
        elif variant.method.is_sum(variant.options):
            with _timed(found.seconds, [number]):
                assert variant.method.from_sum is not None, "it goes with a sum"
                total = block.total(variant)
                merged = variant.method.from_sum(total, len(variant.members))
                emit(number, block, merged.reshape(-1))
        elif variant.method.merge_all is not None:
            together.setdefault(_bundle(variant), []).append(number)
        else:
            with _timed(found.seconds, [number]):
                merged = _call(block, variant, found.wholes[number])
                emit(number, block, _flat(merged, variant))
    for numbers in together.values():
        if variants[numbers[0]].method.takes_stacks:
            stacks.add(block, numbers, tuple(id(variants[n]) for n in numbers))
        else:
            _merge_together([block], numbers, variants, found, emit)


def _merge_together(
    blocks: Sequence[Block],
    numbers: Sequence[int],
    variants: Mapping[int, Variant],
    found: Measurements,
    emit: Emit,
) -> None:
    first = variants[numbers[0]]
    assert first.method.merge_all is not None, "asked before"
    whole = found.wholes[numbers[0]]
    tensors = [stacked(each, blocks, first, whole) for each in first.method.arguments]
    _make_room(blocks)
    recipes = [_merge_options(variants[number]) for number in numbers]
    with _timed(found.seconds, numbers):
        results = first.method.merge_all(*tensors, recipes=recipes)
        for number, merged in zip(numbers, results, strict=True):
            for block, one in zip(blocks, unstacked(merged, blocks), strict=True):
                emit(number, block, _flat(one, first))


@contextmanager
def _timed(seconds: dict[int, float], numbers: Sequence[int]) -> Generator[None]:
    start = time.perf_counter()
    yield
    share = (time.perf_counter() - start) / len(numbers)
    for number in numbers:
        seconds[number] = seconds.get(number, 0.0) + share


def _without_merging(
    cohort: Cohort, block: Block, variant: Variant, found: Measurements
) -> Tensor | None:
    """Give what becomes of a stretch that there is nothing to merge in."""
    method = variant.method
    if not cohort.covers(variant, block.name):
        return _fallback(block, variant)
    # Where there is a scale, a task vector of zero says the same; and the mean of equal
    # numbers is that number, since their sum in float64 is exact.
    if not method.keeps_equal(variant.options) or method.is_sum(variant.options):
        return None
    members, with_base = readers_of(variant)
    is_unchanged = (
        block.name in found.unchanged[members, with_base]
        if asks_for_norms(variant)
        else block.is_unchanged(members, with_base=with_base)
    )
    return block.experts()[members[0]].reshape(-1) if is_unchanged else None


def _fallback(block: Block, variant: Variant) -> Tensor:
    is_scaled = variant.method.scale is not None
    members = variant.members
    if variant.method.fallback is Fallback.PRETRAINED:
        base = block.pretrained().reshape(-1)
        result = torch.zeros_like(base) if is_scaled else base
    elif is_scaled:
        result = _mean(block.raw_task_vectors()[list(members)])
    elif block.is_unchanged(members, with_base=False):
        result = block.experts()[members[0]].reshape(-1)
    else:
        result = _mean(block.experts()[list(members)])
    if variant.method.per_task:
        return result.expand(len(members), -1)
    return result


def _mean(rows: Tensor) -> Tensor:
    return average_of_sum(rows.sum(dim=0, dtype=torch.float64), len(rows)).reshape(-1)


def _call(block: Block, variant: Variant, whole: Whole) -> Tensor:
    tensors = [
        block.argument(argument, variant, whole)
        for argument in variant.method.arguments
    ]
    _make_room([block])
    return variant.method.merge(*tensors, **_merge_options(variant))


def _make_room(blocks: Sequence[Block]) -> None:
    # What was read of a whole parameter has been put together, and is not needed while
    # that is worked on, which may take several times as much.
    if any(block.is_last for block in blocks):
        BUFFERS.let_go()


def _merge_options(variant: Variant) -> dict[str, Option]:
    return {name: variant.options[name] for name in variant.method.merged_options}


def _flat(merged: Tensor, variant: Variant) -> Tensor:
    if variant.method.per_task:
        return merged.reshape(len(merged), -1)
    return merged.reshape(-1)


def _bundle(variant: Variant) -> tuple[object, ...]:
    """Tell which variants are handed the same tensors."""
    method, options = variant.method, variant.options
    return (
        method.name,
        variant.members,
        method.needs_of(options),
        *sparsify_key(method, options),
        *(trim_key(method, options) if method.trims(options) else ()),
    )
