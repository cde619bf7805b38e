"""Checkpoints: what a long step would go on from if it were cut off."""

from collections.abc import Mapping
from contextlib import suppress

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from storage.root import Root

FOLDER = "checkpoints"
"""Where they are, each named after its step's key."""

SUFFIX = ".safetensors"


class Checkpoints:
    """The checkpoint of one step, under the root, so that any worker can go on.

    Args:
        root: where artifacts live.
        key: the step's key.
    """

    def __init__(self, root: Root, key: str) -> None:
        self._root = root
        self._path = f"{FOLDER}/{key}{SUFFIX}"

    def load(self) -> dict[str, Tensor] | None:
        """Give what was kept last.

        Returns:
            Tensors by name; None if there is nothing, or nothing that can be read: the
            step then starts anew.
        """
        try:
            return load(self._root.read(self._path))
        except (FileNotFoundError, SafetensorError):
            return None

    def save(self, state: Mapping[str, Tensor]) -> None:
        """Keep this instead.

        Args:
            state: tensors by name.
        """
        dense = {name: tensor.contiguous() for name, tensor in state.items()}
        self._root.write(self._path, save(dense))

    def remove(self) -> None:
        """Keep nothing."""
        with suppress(FileNotFoundError):
            self._root.delete(self._path)
