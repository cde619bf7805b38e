"""A task's part of compressed experts, read: its merged task vector, and the rest."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mergegrid.coded_file import CODED
from mergegrid.coding import BitsDecoder, NumbersDecoder, StoredBytes
from mergegrid.compressed_form import (
    FACTORS,
    MASKS,
    NUMBERS,
    OF_MODEL,
    PLAIN,
    STATISTICS,
    TASK_VECTOR,
    Description,
)
from mergegrid.errors import InputError
from mergegrid.places import Place
from mergegrid.safetensors_files import SafetensorsSource
from mergegrid.splits import get_splitter, restored


class CompressedTask:
    """What is stored for a task.

    Args:
        directory: the compressed experts.
        description: what they are.
        task: the expert's name.

    Raises:
        InputError: if a file is not there, or damaged.
        UnknownNameError: if there is no such task.
    """

    def __init__(self, directory: Path, description: Description, task: str) -> None:
        self._directory = directory
        self._number = description.number(task)
        self._is_shared = get_splitter(description.recipe.method).is_shared
        file = f"{task}.safetensors"
        numbers = TASK_VECTOR if self._is_shared else f"{NUMBERS}/{file}"
        self._masks = BitsDecoder(self._opened(f"{MASKS}/{file}"))
        self._numbers = NumbersDecoder(self._opened(numbers))
        try:
            has_plain = (directory / PLAIN).exists()
            self._plain = load_file(directory / PLAIN) if has_plain else {}
        except (OSError, SafetensorError) as error:
            raise self._damaged(PLAIN, error) from None

    def task_vector(self, name: str, entries: int) -> Tensor:
        """Restore the next stretch of the merged task vector.

        Args:
            name: the parameter that it belongs to; they are read in order.
            entries: how many entries.

        Returns:
            [entries], float32, before scaling.

        Raises:
            InputError: if what is stored is damaged.
        """
        try:
            mask = self._masks.take(entries)
            if self._is_shared:
                taken = self._numbers.take(entries)
            else:
                own = self._numbers.take(int(mask.sum()))
                taken = torch.zeros(entries).masked_scatter_(mask, own)
        except ValueError as error:
            raise self._damaged(repr(name), error) from None
        return restored(mask, taken, self._factor(name))

    def end(self) -> None:
        """Check that everything has been read, and that it was not damaged.

        Raises:
            InputError: if something is left, or was damaged.
        """
        try:
            self._masks.end()
            self._numbers.end()
        except ValueError as error:
            raise self._damaged("its end", error) from None

    def running_statistic(self, name: str) -> Tensor:
        """Read a running statistic of a normalization layer.

        Args:
            name: the tensor.

        Returns:
            Flat, averaged over the experts.

        Raises:
            InputError: if it is not there.
        """
        return self._plain_tensor(f"{STATISTICS}{name}")

    def _factor(self, name: str) -> float:
        if f"{FACTORS}{name}" in self._plain:
            return float(self._plain[f"{FACTORS}{name}"][self._number])
        if OF_MODEL in self._plain:
            return float(self._plain[OF_MODEL][self._number])
        return 1.0

    def _plain_tensor(self, name: str) -> Tensor:
        if name not in self._plain:
            raise self._damaged(repr(name), "it is not there")
        return self._plain[name]

    def _opened(self, file: str) -> StoredBytes:
        path = self._directory / file
        if not path.is_file():
            raise self._damaged(file, "it is not there")
        source = SafetensorsSource([Place.of(str(path))])
        if CODED not in source.infos:
            raise self._damaged(file, f"it has no {CODED!r}")
        return StoredBytes(source)

    def _damaged(self, what: str, why: object) -> InputError:
        return InputError(
            f"The compressed experts in {self._directory} are damaged at {what}: {why}."
        )
