"""Agreement: how many entries each task's mask selects, and how many masks an entry.

Source:
    Wang et al., "Localizing Task Information for Improved Model Merging and
    Compression", ICML 2024, arXiv:2405.07813, eq. 5 and 7, Figures 2, 3 and 8.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.tall_masks import MergeBy, multi_task_vector, tall_mask


@dataclass(frozen=True)
class Agreement:
    """What the TALL-masks of several tasks select of one merged task vector."""

    merge_by: MergeBy
    """How the task vectors are merged."""

    density: float
    """The fraction of entries kept before that; 1 for task arithmetic, which keeps
    all."""

    mask_threshold: float
    """The threshold of all masks."""

    agreeing: tuple[int, ...]
    """How many entries exactly 0, 1, ..., M masks select: catastrophic ones, selfish
    ones, ..., universal ones."""

    selected: tuple[int, ...]
    """How many entries each expert's mask selects."""


class AgreementCounts:
    """The counts of one merged task vector for several thresholds, block by block.

    Args:
        experts: number of experts M.
        merge_by: see `Agreement`.
        density: see `Agreement`.
        mask_thresholds: the thresholds.
    """

    def __init__(
        self,
        experts: int,
        *,
        merge_by: MergeBy,
        density: float,
        mask_thresholds: tuple[float, ...],
    ) -> None:
        self._merge_by: MergeBy = merge_by
        self._density = density
        self._agreeing = {
            threshold: torch.zeros(experts + 1, dtype=torch.int64)
            for threshold in mask_thresholds
        }
        self._selected = {
            threshold: torch.zeros(experts, dtype=torch.int64)
            for threshold in mask_thresholds
        }

    def add(
        self,
        task_vectors: Float[Tensor, "expert *shape"],
        trimmed: Float[Tensor, "expert *shape"],
        balance: Float64[Tensor, ""] | None,
    ) -> None:
        """Take a stretch of one parameter in.

        Args:
            task_vectors: expert minus pretrained, for every expert.
            trimmed: the same, trimmed.
            balance: of the signs elected in the whole model.
        """
        merged = multi_task_vector(
            task_vectors, trimmed, balance, merge_by=self._merge_by
        )
        for threshold in self._agreeing:
            masks = tall_mask(task_vectors, merged, mask_threshold=threshold)
            masks = masks.reshape(len(masks), -1)
            votes = torch.bincount(masks.sum(dim=0), minlength=len(masks) + 1)
            self._agreeing[threshold] += votes.cpu()
            self._selected[threshold] += masks.sum(dim=1).cpu()

    def found(self) -> list[Agreement]:
        """Give the counts.

        Returns:
            Those of each threshold.
        """
        return [
            Agreement(
                merge_by=self._merge_by,
                density=self._density,
                mask_threshold=threshold,
                agreeing=tuple(agreeing.tolist()),
                selected=tuple(self._selected[threshold].tolist()),
            )
            for threshold, agreeing in self._agreeing.items()
        ]
