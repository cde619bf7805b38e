"""The allocator: memory that blocks leave is kept for the next ones.

Tensors of a block are made and dropped thousands of times. The C library of Linux gives
memory of their size back to the system each time, and takes it again page by page, all
zeroed: that costs more than the arithmetic. It stops doing so once it has seen a larger
piece come back, which in most programs happens sooner or later.
"""

import functools

import torch

LARGEST_REUSED = (1 << 25) - (1 << 16)
"""Bytes; glibc keeps pieces of up to 32 MiB, its own notes on them included."""


@functools.cache
def reuse_memory() -> None:
    """Make the C library keep pieces of memory that come back; elsewhere do nothing.

    What is free at the end of its memory it still gives back, from 64 MiB on.
    """
    torch.empty(LARGEST_REUSED, dtype=torch.uint8)  # never touched, so it costs nothing
