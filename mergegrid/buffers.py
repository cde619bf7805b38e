"""Buffers: memory that is filled, given back and used again.

Pieces are read by one thread and given up by another. What malloc hands out so, it
mostly keeps, and a merge in several passes would hold several times what it uses.
Merged models, on the other hand, it gives back to the system, and takes the next one's
memory again page by page, all zeroed: that takes longer than to fill it.
"""

import math
import mmap
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1 << 20
"""Bytes; less than that is malloc's."""

KEPT = 1 << 26
"""Bytes that wait to be used again, at most; the rest goes back to the system."""

PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
"""Memory as malloc hands it out."""


class Buffers:
    """A store of memory; tensors made in it come back when nothing refers to them.

    Args:
        kept: bytes that wait to be used again, at most.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._waiting: list[mmap.mmap] = []
        self._lock = threading.Lock()

    def tensor(self, size: int) -> Tensor:
        """Make a tensor of bytes.

        Args:
            size: how many.

        Returns:
            [size], uint8, with anything in it.
        """
        if size < SMALLEST:
            return torch.empty(size, dtype=torch.uint8)
        return torch.from_numpy(np.asarray(_Lease(self, self._take(size), size)))

    def numbers(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Make a tensor of numbers.

        Args:
            shape: its shape.
            device: where it is; memory that is not the processor's is PyTorch's own.

        Returns:
            [*shape], float32, with anything in it.
        """
        if device.type != "cpu":
            return torch.empty(shape, dtype=torch.float32, device=device)
        size = math.prod(shape) * torch.float32.itemsize
        return self.tensor(size).view(torch.float32).view(shape)

    def give_back(self, memory: mmap.mmap) -> None:
        """Take memory back that nothing refers to any more.

        Args:
            memory: from this store.
        """
        with self._lock:
            self._waiting.append(memory)
            while sum(map(len, self._waiting)) > self._kept:
                self._waiting.pop(0)

    def let_go(self) -> None:
        """Give what waits to be used again back to the system."""
        with self._lock:
            self._waiting.clear()

    def _take(self, size: int) -> mmap.mmap:
        with self._lock:
            for number, memory in enumerate(self._waiting):
                if len(memory) == size:
                    return self._waiting.pop(number)
        return mmap.mmap(-1, size, flags=PRIVATE)


class _Lease:
    """Memory in use, as an array that numpy can make."""

    def __init__(self, store: Buffers, memory: mmap.mmap, size: int) -> None:
        self._store = store
        self._memory = memory
        address = np.frombuffer(memory, dtype=np.uint8).__array_interface__["data"][0]
        self.__array_interface__: dict[str, Any] = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }

    def __del__(self) -> None:
        self._store.give_back(self._memory)


BUFFERS = Buffers()
"""The store that all files are read into."""
