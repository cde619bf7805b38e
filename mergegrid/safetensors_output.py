"""Safetensors files in the making: every stretch is written to where it belongs.

A file's layout follows from names, types and shapes, so that tensors can be written in
any order and a stretch at a time.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from mergegrid.canonical import canonical_json
from mergegrid.safetensors_files import LENGTH, TYPES
from mergegrid.sources import TensorInfo

NAMES = {dtype: name for name, dtype in TYPES.items()}
"""Types to the format's names of them."""

ALIGNMENT = 8
"""The header is padded with spaces so that tensors start at a multiple of this."""

STEM = "model"
"""What the names of a model's files begin with, for Hugging Face to find them."""

MOST_BYTES = 5_000_000_000
"""How large a file may be."""


@dataclass(frozen=True)
class Shard:
    """A safetensors file that is to be written."""

    name: str
    """Its name."""

    infos: Mapping[str, TensorInfo]
    """The tensors in it."""


def plan_shards(
    infos: Mapping[str, TensorInfo], most_bytes: int = MOST_BYTES
) -> list[Shard]:
    """Share tensors out among files.

    Args:
        infos: every tensor by name.
        most_bytes: how large a file's tensors may be together; none is ever cut.

    Returns:
        One file called `model.safetensors`, or several with their numbers, as Hugging
        Face writes them.
    """
    groups: list[dict[str, TensorInfo]] = [{}]
    taken = 0
    for name, info in infos.items():
        if groups[-1] and taken + info.size > most_bytes:
            groups.append({})
            taken = 0
        groups[-1][name] = info
        taken += info.size
    if len(groups) == 1:
        return [Shard(f"{STEM}.safetensors", groups[0])]
    return [
        Shard(f"{STEM}-{number:05}-of-{len(groups):05}.safetensors", group)
        for number, group in enumerate(groups, start=1)
    ]


class SafetensorsSink(AbstractContextManager["SafetensorsSink"]):
    """Safetensors files, to be filled inside a `with`; then they are on the disk.

    Args:
        directory: where to; an existing directory.
        infos: every tensor by name.
        most_bytes: how large a file may be.

    Raises:
        OSError: if they cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        infos: Mapping[str, TensorInfo],
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._where: dict[str, tuple[int, int, torch.dtype]] = {}
        self._left = {name: info.entries for name, info in infos.items()}
        self._descriptors: list[int] = []
        shards = plan_shards(infos, most_bytes)
        try:
            for shard in shards:
                self._begin(directory / shard.name, shard)
            if len(shards) > 1:
                _write_index(directory / f"{STEM}.safetensors.index.json", shards)
        except OSError:
            self._abandon()
            raise

    def write(self, name: str, start: int, stretch: Tensor) -> None:
        """Write a stretch of a tensor.

        Args:
            name: the tensor's name.
            start: index of the first entry.
            stretch: flat entries, in the tensor's type.

        Raises:
            OSError: if it cannot be written.
        """
        descriptor, offset, dtype = self._where[name]
        assert stretch.dtype == dtype, f"{name} is of type {dtype}"
        dense = stretch.detach().cpu().contiguous().reshape(-1)
        if dense.numel():
            window = dense.view(torch.uint8).numpy().data
            _write_all(descriptor, window, offset + start * dtype.itemsize)
            self._left[name] -= dense.numel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                # What is not written reads as zeros.
                unwritten = [name for name, left in self._left.items() if left]
                assert not unwritten, f"{unwritten} are not written"
                for descriptor in self._descriptors:
                    os.fsync(descriptor)
        finally:
            self._abandon()

    def _begin(self, path: Path, shard: Shard) -> None:
        head, starts, end = _layout(shard)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._descriptors.append(descriptor)
        os.truncate(descriptor, end)
        _write_all(descriptor, memoryview(head), 0)
        for name, start in starts.items():
            self._where[name] = descriptor, start, shard.infos[name].dtype

    def _abandon(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


def _write_index(path: Path, shards: list[Shard]) -> None:
    total = sum(info.size for shard in shards for info in shard.infos.values())
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: shard.name for shard in shards for name in shard.infos},
    }
    path.write_text(f"{json.dumps(index, indent=2)}\n", encoding="utf-8")


def _layout(shard: Shard) -> tuple[bytes, dict[str, int], int]:
    # Loaders of other packages look for this entry.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    # The widest types first: every tensor starts at a multiple of its type's width.
    ordered = sorted(shard.infos, key=lambda n: (-shard.infos[n].dtype.itemsize, n))
    for name in ordered:
        info = shard.infos[name]
        header[name] = {
            "dtype": NAMES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offset, offset + info.size],
        }
        offset += info.size
    text = canonical_json(header).encode()
    text += b" " * (-(LENGTH + len(text)) % ALIGNMENT)
    begin = LENGTH + len(text)
    starts = {name: begin + header[name]["data_offsets"][0] for name in shard.infos}
    return len(text).to_bytes(LENGTH, "little") + text, starts, begin + offset


def _write_all(descriptor: int, window: memoryview, offset: int) -> None:
    done = 0
    while done < len(window):
        done += os.pwrite(descriptor, window[done:], offset + done)
