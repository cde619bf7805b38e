"""Windows: the entries between two ranks of magnitude, found stretch by stretch.

Magnitudes are in decreasing order, of equal ones the first comes first. No more than a
stretch of a parameter is looked at, besides one bit of information for each entry.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mergegrid.statistics.trim import kept_entries, thresholds_at

AT_ONCE = 1 << 18
"""How many entries of all experts together are looked at: what a cache holds."""

Stretches: TypeAlias = Callable[[int, int], Float[Tensor, "expert entry"]]
"""Gives a stretch of a parameter of every expert, from one entry to before another."""


class Window(NamedTuple):
    """Ranks in the order of magnitudes, counted from 0."""

    start: int
    """That of the first entry."""

    stop: int
    """That after the last one."""


def mark_rows(
    stretches: Stretches, entries: int, length: int, windows: Sequence[Window]
) -> Bool[Tensor, "expert entry"]:
    """Tell which entries have a rank within a window in their row.

    Args:
        stretches: a parameter of every expert.
        entries: how many each of them has.
        length: how many a row has.
        windows: each expert's.

    Returns:
        Whether each entry has.
    """
    marks = _empty(stretches, entries)
    step = max(AT_ONCE // (length * len(marks)), 1) * length
    for start in range(0, entries, step):
        stop = min(start + step, entries)
        magnitudes = stretches(start, stop).abs().view(-1, length)
        ascending = _sorted(magnitudes)
        rows = len(magnitudes) // len(marks)
        outer, inner = (
            _largest(
                magnitudes,
                ascending,
                torch.tensor(ends, device=marks.device).repeat_interleave(rows),
            )
            for ends in zip(*((w.stop, w.start) for w in windows), strict=True)
        )
        marks[:, start:stop] = outer.logical_and_(~inner).view(len(marks), -1)
    return marks


def mark_tensor(
    stretches: Stretches, entries: int, windows: Sequence[Window]
) -> Bool[Tensor, "expert entry"]:
    """Tell which entries have a rank within a window in the whole parameter.

    Args:
        stretches: a parameter of every expert.
        entries: how many each of them has.
        windows: each expert's.

    Returns:
        Whether each entry has.
    """
    marks = _empty(stretches, entries)
    step = max(AT_ONCE // len(marks), 1)

    def magnitudes() -> Iterator[tuple[str, Tensor]]:
        for start in range(0, entries, step):
            stop = min(start + step, entries)
            yield str(start), stretches(start, stop).abs()

    # Each stretch is named, so that ties are counted in each.
    found = thresholds_at(magnitudes, windows)
    ends = [
        [by_rank[rank] for by_rank, rank in zip(found, ranks, strict=True)]
        for ranks in zip(*((w.stop, w.start) for w in windows), strict=True)
    ]
    for name, stretch in magnitudes():
        outer, inner = (
            kept_entries(
                stretch,
                stretch.new_tensor([each.threshold for each in of_experts]),
                torch.tensor(
                    [each.ties_kept[name] for each in of_experts], device=marks.device
                ),
            ).entries
            for of_experts in ends
        )
        start = int(name)
        marks[:, start : start + step] = outer.logical_and_(~inner)
    return marks


def _empty(stretches: Stretches, entries: int) -> Bool[Tensor, "expert entry"]:
    none = stretches(0, 0)
    return torch.empty((len(none), entries), dtype=torch.bool, device=none.device)


def _sorted(rows: Float[Tensor, "row entry"]) -> Float[Tensor, "row entry"]:
    if rows.device.type == "cpu":
        # NumPy sorts with the processor's vector instructions, PyTorch without.
        return torch.from_numpy(np.sort(rows.numpy(), axis=1))
    return rows.sort(dim=1).values


def _largest(
    magnitudes: Float[Tensor, "row entry"],
    ascending: Float[Tensor, "row entry"],
    counts: Int[Tensor, " row"],
) -> Bool[Tensor, "row entry"]:
    """Tell which entries are the largest of their rows, so many of them."""
    last = (magnitudes.shape[1] - counts.clamp(min=1))[:, None]
    thresholds = ascending.gather(1, last)
    ties = counts - (magnitudes > thresholds).sum(dim=1)
    return kept_entries(magnitudes, thresholds[:, 0], ties).entries
