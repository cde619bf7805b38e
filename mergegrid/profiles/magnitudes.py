"""Magnitudes: how large merged entries are, and what made them small.

A mean over experts shrinks an entry that only some of them have changed much, since the
others add next to nothing (redundancy), and one that they have changed in opposite
directions (conflict). Trimming takes the first away, electing a sign the second.

Source:
    Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS
    2023, arXiv:2306.01708, sec. 7.1 and App. A.2, Figures 6, 8 and 9.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mergegrid.methods.ties import ties

MERGINGS = ("average", "trimmed", "elected", "both")
"""Kinds of merging: the mean; the mean of what is kept; the mean of what agrees with
the elected sign; and the mean of what is kept and agrees, which is TIES."""

TENTHS = 10
"""Classes of sign agreement between 0 and 1."""


@dataclass(frozen=True)
class Magnitudes:
    """How large the merged entries of a group are."""

    grouping: str
    """What groups are made by: "all" is one group; "kept_by" counts the experts that
    keep an entry after trimming; "agreement" is the share of the experts that have
    changed an entry which have its more frequent sign, rounded down to a tenth."""

    level: float
    """The count or the share; 0 for all entries, and for those nobody has changed."""

    merging: str
    """One of `MERGINGS`."""

    entries: int
    """How many entries the group has."""

    mean: float
    """The mean of their magnitudes."""

    deviation: float
    """The standard deviation of their magnitudes: of all entries, not of a sample."""


class MagnitudeSums:
    """Sums that magnitudes follow from, block by block, for one density.

    Args:
        experts: number of experts M.
    """

    def __init__(self, experts: int) -> None:
        groups = {"all": 1, "kept_by": experts + 1, "agreement": TENTHS + 1}
        self._counts = {
            grouping: torch.zeros(count, dtype=torch.int64)
            for grouping, count in groups.items()
        }
        self._sums = {
            (grouping, merging): torch.zeros(2, count, dtype=torch.float64)
            for grouping, count in groups.items()
            for merging in MERGINGS
        }

    def add(
        self,
        task_vectors: Float[Tensor, "expert *shape"],
        trimmed: Float[Tensor, "expert *shape"],
        balances: tuple[Float64[Tensor, ""] | None, Float64[Tensor, ""] | None],
    ) -> None:
        """Take a stretch of one parameter in.

        Args:
            task_vectors: expert minus pretrained, for every expert.
            trimmed: the same, trimmed.
            balances: of the signs elected in the whole model without and with trimming,
                see `mergegrid.methods.ties`.
        """
        merged = merge_each_way(task_vectors, trimmed, balances)
        for grouping, groups in _groups(task_vectors, trimmed).items():
            count = len(self._counts[grouping])
            self._counts[grouping] += torch.bincount(groups, minlength=count).cpu()
            for merging, entries in merged.items():
                sizes = entries.reshape(-1).double().abs()
                found = [
                    torch.bincount(groups, powers, minlength=count)
                    for powers in (sizes, sizes.square())
                ]
                self._sums[grouping, merging] += torch.stack(found).cpu()

    def found(self) -> Iterator[Magnitudes]:
        """Turn the sums into means.

        Yields:
            The magnitudes of every group that has an entry, by every kind of merging.
        """
        for (grouping, merging), (sums, squares) in self._sums.items():
            unit = 1 / TENTHS if grouping == "agreement" else 1.0
            for group, entries in enumerate(self._counts[grouping].tolist()):
                if entries:
                    mean = float(sums[group]) / entries
                    variance = float(squares[group]) / entries - mean**2
                    yield Magnitudes(
                        grouping=grouping,
                        level=round(group * unit, 1),
                        merging=merging,
                        entries=entries,
                        mean=mean,
                        deviation=math.sqrt(max(variance, 0.0)),
                    )


def merge_each_way(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"],
    balances: tuple[Float64[Tensor, ""] | None, Float64[Tensor, ""] | None],
) -> dict[str, Float[Tensor, "*shape"]]:
    """Merge with and without trimming, with and without electing a sign.

    Args:
        task_vectors: see `MagnitudeSums.add`.
        trimmed: see `MagnitudeSums.add`.
        balances: see `MagnitudeSums.add`.

    Returns:
        Kind of merging to merged task vector.
    """
    raw_balance, balance = balances
    keepers = (trimmed != 0).sum(dim=0).clamp_(min=1)
    return {
        "average": task_vectors.mean(dim=0, dtype=torch.float64),
        "trimmed": trimmed.sum(dim=0, dtype=torch.float64) / keepers,
        "elected": ties(task_vectors, None, raw_balance),
        "both": ties(trimmed, None, balance),
    }


def agreement_tenths(
    task_vectors: Float[Tensor, "expert *shape"],
) -> Int64[Tensor, "*shape"]:
    """Tell how far experts agree in the sign of each entry.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        Tenths, rounded down, of those that have changed it which have the more frequent
        sign: 5 to 10, or 0 where nobody has changed it.
    """
    rises, falls = (task_vectors > 0).sum(dim=0), (task_vectors < 0).sum(dim=0)
    changed = rises + falls
    return TENTHS * torch.maximum(rises, falls) // changed.clamp(min=1)


def magnitudes_flops(experts: int) -> int:
    """Count the floating-point operations of one entry's magnitudes.

    Args:
        experts: their number M.

    Returns:
        M - 1 additions and a division for the mean, and as many and M comparisons for
        the mean of what is kept; twice 4M to elect, 2M to compare signs and mask, and
        2M - 1 to merge; 4M comparisons and additions for two groupings; a magnitude, a
        square and six additions for each of four kinds of merging.
    """
    return (2 * experts) + experts + 2 * (8 * experts - 1) + 4 * experts + 4 * 8


def _groups(
    task_vectors: Float[Tensor, "expert *shape"],
    trimmed: Float[Tensor, "expert *shape"],
) -> dict[str, Int64[Tensor, " entry"]]:
    kept_by = (trimmed != 0).sum(dim=0).reshape(-1)
    return {
        "all": torch.zeros_like(kept_by),
        "kept_by": kept_by,
        "agreement": agreement_tenths(task_vectors).reshape(-1),
    }
