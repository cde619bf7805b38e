"""Conflicts: entries that some experts increase and others decrease.

Source:
    Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS
    2023, arXiv:2306.01708, Figures 4 and 9a.
"""

from dataclasses import astuple, dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Conflicts:
    """How several task vectors disagree in sign, as counts that add up."""

    entries: int = 0
    """Entries that there are."""

    redundant: int = 0
    """Those of them that are zero in every task vector."""

    conflicting: int = 0
    """Those that are positive in one task vector and negative in another."""

    kept: int = 0
    """Entries that are not zero, over all task vectors."""

    outvoted: int = 0
    """Those of them whose sign is not the elected one: a disjoint merge drops them."""

    def __add__(self, other: "Conflicts") -> "Conflicts":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Conflicts(*(one + another for one, another in pairs))


def count_conflicts(
    trimmed: Float[Tensor, "expert *shape"], elected: Float[Tensor, "*shape"]
) -> Conflicts:
    """Count where one stretch of several task vectors disagrees.

    Args:
        trimmed: the task vectors, trimmed or not.
        elected: the sign elected for each entry: -1, 0 or 1.

    Returns:
        The counts.
    """
    signs = trimmed.sign()
    rises, falls = (signs > 0).any(dim=0), (signs < 0).any(dim=0)
    kept = signs != 0
    return Conflicts(
        entries=elected.numel(),
        redundant=int((~(rises | falls)).sum()),
        conflicting=int((rises & falls).sum()),
        kept=int(kept.sum()),
        outvoted=int((kept & (signs != elected)).sum()),
    )


def conflicts_flops(experts: int) -> int:
    """Count the floating-point operations of `count_conflicts` for one entry.

    Args:
        experts: their number M.

    Returns:
        For every expert a sign and four comparisons.
    """
    return 5 * experts
