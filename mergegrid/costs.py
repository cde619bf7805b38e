"""Costs: what a step took, to be added up and charged to what used it.

Floating-point operations are formulas beside the code that they count; seconds and
memory are measured here, on the machine that the provenance names, and never compared
across machines.
"""

import resource
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass
class Cost:
    """What a step took.

    Costs add up; of memory, and of different examples, the greater number counts.
    """

    seconds: float = 0.0
    """Wall-clock time."""

    flops: int = 0
    """Floating-point operations as they were done; a multiply-add counts as two."""

    paper_flops: float = 0.0
    """The same by the Realistic Evaluation paper's Table 3."""

    bytes_read: int = 0
    """From storage."""

    bytes_written: int = 0
    """To storage."""

    peak_memory: int = 0
    """Bytes: on an accelerator, the most that was allocated there in the meantime;
    else the most that the process has held in memory since it started."""

    examples: int = 0
    """How many examples were seen, counting repetitions."""

    labelled: int = 0
    """Different examples whose labels were used."""

    unlabelled: int = 0
    """Different examples of which the inputs alone were used."""

    paper_memory: float = 0.0
    """Peak memory by the SuperMerge paper's eq. 6, in bytes; 0 without a formula."""

    def __add__(self, other: "Cost") -> "Cost":
        """Add the cost of something done before or after."""
        return Cost(
            seconds=self.seconds + other.seconds,
            flops=self.flops + other.flops,
            paper_flops=self.paper_flops + other.paper_flops,
            bytes_read=self.bytes_read + other.bytes_read,
            bytes_written=self.bytes_written + other.bytes_written,
            peak_memory=max(self.peak_memory, other.peak_memory),
            examples=self.examples + other.examples,
            labelled=max(self.labelled, other.labelled),
            unlabelled=max(self.unlabelled, other.unlabelled),
            paper_memory=max(self.paper_memory, other.paper_memory),
        )

    def share(self, among: int) -> "Cost":
        """Divide the cost of something that several used.

        Args:
            among: how many did.

        Returns:
            The part of each; counts are rounded down, memory and different examples
            are not divided.

        Raises:
            ValueError: if nobody did.
        """
        if among < 1:
            raise ValueError(f"A cost is shared among one or more, not {among}.")
        return Cost(
            seconds=self.seconds / among,
            flops=self.flops // among,
            paper_flops=self.paper_flops / among,
            bytes_read=self.bytes_read // among,
            bytes_written=self.bytes_written // among,
            peak_memory=self.peak_memory,
            examples=self.examples // among,
            labelled=self.labelled,
            unlabelled=self.unlabelled,
            paper_memory=self.paper_memory,
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the cost as plain values, for a row or a manifest.

        Returns:
            Every field by name.
        """
        return asdict(self)


@contextmanager
def measure_cost(device: torch.device | str = "cpu") -> Generator[Cost]:
    """Measure the time and the memory of what happens inside.

    Args:
        device: where it happens; what is queued on an accelerator is waited for.

    Yields:
        A cost whose seconds and peak memory are filled in when the block ends, also
        when it fails; the rest is the block's to fill in.
    """
    cost = Cost()
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    try:
        yield cost
    finally:
        if on_gpu:
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        cost.peak_memory = (
            torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory()
        )


def peak_memory() -> int:
    """Tell the most that the process has held in memory since it started.

    Returns:
        Bytes.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes everywhere but on macOS.
    return peak if sys.platform == "darwin" else peak * 1024


def learning_memory(
    model: int, *, trained: int = 0, task_vectors: int = 0, together: int = 0
) -> float:
    """Estimate peak memory as the SuperMerge paper does, arXiv:2412.10416, eq. 6.

    Args:
        model: N, parameters of the model.
        trained: N_tr, numbers that are trained, each with a gradient and two of Adam's.
        task_vectors: N_tv, entries of a task vector.
        together: k, task vectors in memory at a time.

    Returns:
        4 N + 4 N_tr + 8 N_tr + 4 k N_tv bytes. The paper's Table 5 prints such bytes
        over 1000 * 2^20 as G.
    """
    return 4.0 * model + 12.0 * trained + 4.0 * together * task_vectors
