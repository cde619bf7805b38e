"""Stacks: small layers of one shape, handed together to methods that take several.

An operation on a small layer takes no longer than it takes to start it, and conjugate
gradients are hundreds of operations. A stack fits into the processor's cache: larger
ones are slower than their layers one by one. Which layers are in a stack is a matter of
the model and of the merge alone, so that its bits do not depend on what else is merged.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mergegrid.blocks import Block
from mergegrid.threads import one_thread
from mergegrid.variant import Variant, Whole

ENTRIES_IN_CACHE = 1 << 16
"""Entries of an expert in a stack, on a CPU (512 KiB in float64)."""

ENTRIES_ON_DEVICE = 1 << 22
"""The same on an accelerator, where what counts is to launch few operations."""

WITHOUT_EXPERTS = frozenset({"pretrained", "signs"})
"""Arguments of methods that are the same for all experts."""

MergeTogether = Callable[[Sequence[Block], Sequence[int]], None]
"""Merges whole layers of one shape, by the variants of these numbers."""


@dataclass
class _Waiting:
    """Layers that wait, and what for."""

    numbers: Sequence[int]
    blocks: list[Block]

    @property
    def size(self) -> int:
        """Entries of an expert, or of its Gram matrices if these are larger."""
        shape = self.blocks[0].shape
        return len(self.blocks) * max(math.prod(shape), *(n * n for n in shape))


class Stacks:
    """Layers that wait for others of their shape, and come in the order of shapes.

    Args:
        device: where arithmetic happens.
        merge: merges those that have waited.
    """

    def __init__(self, device: torch.device, merge: MergeTogether) -> None:
        self._is_cpu = device.type == "cpu"
        self._most = ENTRIES_IN_CACHE if self._is_cpu else ENTRIES_ON_DEVICE
        self._merge = merge
        self._waiting: dict[object, _Waiting] = {}

    def add(self, block: Block, numbers: Sequence[int], kind: Hashable) -> None:
        """Have a layer wait for others to be merged with.

        Args:
            block: the layer, whole.
            numbers: the variants that it is merged by.
            kind: equal for the same variants.
        """
        for other in self._waiting.values():
            if other.blocks and other.blocks[0].shape != block.shape:
                self._flush(other)
        waiting = self._waiting.setdefault(kind, _Waiting(numbers, []))
        waiting.blocks.append(block)
        # Another one of this shape would be too many.
        if waiting.size * (len(waiting.blocks) + 1) > self._most * len(waiting.blocks):
            self._flush(waiting)

    def flush(self) -> None:
        """Merge all layers that wait."""
        for waiting in self._waiting.values():
            self._flush(waiting)

    def _flush(self, waiting: _Waiting) -> None:
        blocks, waiting.blocks = waiting.blocks, []
        if not blocks:
            return
        is_small = self._is_cpu and _Waiting((), blocks).size <= self._most
        with one_thread() if is_small else nullcontext():
            self._merge(blocks, waiting.numbers)


def in_order(
    variants_of: Mapping[str, Mapping[int, Variant]],
    shapes: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """Put parameters in an order in which layers of one shape follow one another.

    Args:
        variants_of: the parameters; for each its merges, by number.
        shapes: of the parameters.

    Returns:
        The same parameters, in their order if no method takes several at once.
    """
    variants = (variant for by in variants_of.values() for variant in by.values())
    if not any(variant.method.takes_stacks for variant in variants):
        return list(variants_of)
    return sorted(variants_of, key=lambda name: shapes[name])


def stacked(
    argument: str, blocks: Sequence[Block], variant: Variant, whole: Whole
) -> Tensor | None:
    """Put an argument of several layers together.

    Args:
        argument: see `Block.argument`.
        blocks: the layers, of one shape.
        variant: see `Block.argument`.
        whole: see `Block.argument`.

    Returns:
        [expert, layer, *shape], or [layer, *shape] where experts share the argument; of
        a single layer without that axis.
    """
    each = [block.argument(argument, variant, whole) for block in blocks]
    found = [tensor for tensor in each if tensor is not None]
    if len(found) < 2:
        return each[0]
    return torch.stack(found, dim=0 if argument in WITHOUT_EXPERTS else 1)


def unstacked(merged: Tensor, blocks: Sequence[Block]) -> Iterable[Tensor]:
    """Take layers apart again.

    Args:
        merged: [layer, *shape]; of a single layer without that axis.
        blocks: the layers.

    Returns:
        [*shape] of each.
    """
    return [merged] if len(blocks) == 1 else merged
