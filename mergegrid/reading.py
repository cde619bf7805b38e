"""Reading: how tensors are handed to methods, and how much of them at a time."""

from dataclasses import dataclass

import torch

ENTRIES_IN_CACHE = 1 << 18
"""Entries of all experts together in a block, on a CPU (1 MiB in float32)."""

ENTRIES_ON_DEVICE = 1 << 26
"""The same on an accelerator, where what counts is to launch few operations."""

ROWS_OF_A_SUM = 2
"""Rows that a block has where experts are added up: those of the sum, in float64."""


@dataclass(frozen=True)
class Reading:
    """How tensors are handed to methods, the same for all blocks of a cohort."""

    experts: tuple[str, ...]
    """Names of the experts."""

    seed: int
    """For draws."""

    device: torch.device
    """Where arithmetic happens."""

    def block(self, *, one_by_one: bool) -> int:
        """Tell how long a block is.

        Args:
            one_by_one: whether experts are not put together, but added up.

        Returns:
            Entries of a block, a multiple of what the generator draws at once.
        """
        total = ENTRIES_IN_CACHE if self.device.type == "cpu" else ENTRIES_ON_DEVICE
        rows = ROWS_OF_A_SUM if one_by_one else len(self.experts)
        return max(1024, total // rows // 1024 * 1024)
