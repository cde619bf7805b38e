"""Threads: as many as help, and no more.

A block of entries fits into the processor's cache, and an operation on it takes some
ten microseconds: no longer than it takes several threads to agree on who does what.
While they wait for one another they spin, which on a busy machine costs many times what
the work costs. So blocks are worked on by one thread, while others read and write.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Generator[None]:
    """Keep PyTorch's operations in one thread inside.

    Yields:
        Nothing.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
