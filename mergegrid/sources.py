"""Sources: models whose tensors are read when they are needed, a stretch at a time.

A model in memory, a safetensors file, a sharded model and a model in a bucket are read
alike: what tensors there are is known at once, from headers; values are read by name
and range of entries, in row-major order.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mergegrid.parameters import Parameters


@dataclass(frozen=True)
class TensorInfo:
    """What is known about a tensor without reading it."""

    shape: tuple[int, ...]
    """Its shape."""

    dtype: torch.dtype
    """Its type."""

    @property
    def entries(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.entries * self.dtype.itemsize


class Source(Protocol):
    """A model to read from."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether every reading is a request that takes its time to be answered."""
        ...

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Read a stretch of a tensor.

        Args:
            name: the tensor's name.
            start: index of the first entry, in row-major order.
            stop: index after the last entry.

        Returns:
            [stop - start], in the tensor's type. Not to be changed.
        """
        ...

    def identity(self, name: str) -> object:
        """Tell tensors that share their memory from tensors that do not.

        Args:
            name: the tensor's name.

        Returns:
            Something that is equal for names of one and the same tensor, None if only
            its values can tell.
        """
        ...


class InMemory:
    """A mapping of tensors as a source.

    Args:
        parameters: tensors by name.
    """

    is_remote = False

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.infos: Mapping[str, TensorInfo] = {
            name: TensorInfo(tuple(tensor.shape), tensor.dtype)
            for name, tensor in parameters.items()
        }
        self._flat: dict[str, Tensor] = {}

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Give a view of a stretch of a tensor; see `Source.read`."""
        if name not in self._flat:
            self._flat[name] = self.parameters[name].detach().reshape(-1)
        return self._flat[name][start:stop]

    def identity(self, name: str) -> object:
        """Give the place in memory; see `Source.identity`."""
        tensor = self.parameters[name]
        if tensor.numel() == 0:
            return id(tensor)
        return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def read_whole(source: Source, name: str) -> Tensor:
    """Read a tensor in its shape.

    Args:
        source: the model.
        name: the tensor's name.

    Returns:
        [*shape], in the tensor's type.
    """
    info = source.infos[name]
    return source.read(name, 0, info.entries).view(info.shape)
