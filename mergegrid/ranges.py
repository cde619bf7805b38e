"""Ranges of large files, read into tensors.

On a disk they are read by system calls, which several threads may make at once, and in
a bucket by one request each.
"""

import os

import torch
from torch import Tensor

from mergegrid.buffers import BUFFERS
from mergegrid.errors import StorageError
from mergegrid.places import Place, explained

MOST_AT_ONCE = 1 << 30
"""Bytes that one system call is asked for; Linux gives no more than 2 GiB."""


class Ranges:
    """A file whose ranges are read into tensors, by several threads if need be.

    Args:
        place: the file.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._descriptor: int | None = None
        if place.is_local:
            with explained(place):
                self._descriptor = os.open(place.path, os.O_RDONLY)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            os.close(self._descriptor)  # pyright: ignore[reportArgumentType]

    def read(self, start: int, entries: int, dtype: torch.dtype) -> Tensor:
        """Read numbers.

        Args:
            start: where they start, in bytes.
            entries: how many they are.
            dtype: their type.

        Returns:
            [entries], in memory of its own.

        Raises:
            StorageError: if the file ends before.
        """
        size = entries * dtype.itemsize
        if self._descriptor is None:
            found = bytearray(self.place.bytes(start, start + size) if size else b"")
            if len(found) < size:
                raise StorageError(f"{self.place.text} is cut off.")
            if not size:
                return torch.empty(0, dtype=dtype)
            return torch.frombuffer(found, dtype=dtype)
        into = BUFFERS.tensor(size)
        window = into.numpy().data
        done = 0
        with explained(self.place):
            while done < size:
                count = os.preadv(
                    self._descriptor, [window[done : done + MOST_AT_ONCE]], start + done
                )
                if not count:
                    raise StorageError(f"{self.place.text} is cut off.")
                done += count
        return into.view(dtype)
