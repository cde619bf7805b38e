"""Buffers: memory that is read into, used again and given back.

Pieces are read by one thread and given up by another. What malloc hands out so, it
mostly keeps, and a merge in several passes would hold several times what it uses.
"""

import mmap
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALLEST = 1 << 20
"""Bytes; less than that is malloc's."""

KEPT = 1 << 26
"""Bytes that wait to be used again, at most; the rest goes back to the system."""


class Buffers:
    """A store of memory; tensors made in it come back when nothing refers to them."""

    def __init__(self) -> None:
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

    def give_back(self, memory: mmap.mmap) -> None:
        """Take memory back that nothing refers to any more.

        Args:
            memory: from this store.
        """
        with self._lock:
            self._waiting.append(memory)
            while sum(map(len, self._waiting)) > KEPT:
                self._waiting.pop(0)

    def _take(self, size: int) -> mmap.mmap:
        with self._lock:
            for number, memory in enumerate(self._waiting):
                if len(memory) == size:
                    return self._waiting.pop(number)
        return mmap.mmap(-1, size)


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
