"""Safetensors files as sources and sinks: headers first, then ranges of bytes.

The format is a header of JSON, its length before it in eight bytes, and after it every
tensor's bytes, dense and row-major. So a stretch of a tensor is a range of the file,
and a file can be written in any order once its layout is known.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mergegrid.canonical import canonical_json
from mergegrid.errors import InputError, StorageError
from mergegrid.places import Place, Ranges
from mergegrid.sources import TensorInfo

TYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
}
"""The format's names of types."""

NAMES = {dtype: name for name, dtype in TYPES.items()}

LENGTH = 8
"""Bytes in which the header's length is written."""

FIRST_RANGE = 1 << 16
"""Bytes of a file that are read at first: enough for the headers of most."""

LARGEST_HEADER = 100_000_000
"""Bytes; the format allows no more."""

ALIGNMENT = 8
"""The header is padded with spaces so that tensors start at a multiple of this."""


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies in a file."""

    file: int
    info: TensorInfo
    start: int


class SafetensorsSource:
    """A model in one or several safetensors files.

    Args:
        places: the files.

    Raises:
        InputError: if a file is damaged, or a tensor is in two of them.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = list(places)
        self._ranges: dict[int, Ranges] = {}
        self._stored: dict[str, _Stored] = {}
        for number, place in enumerate(self.places):
            for name, (info, start) in read_header(place).items():
                if name in self._stored:
                    raise InputError(f"{name!r} is in two files: one is {place.text}.")
                self._stored[name] = _Stored(number, info, start)
        self.infos: Mapping[str, TensorInfo] = {
            name: self._stored[name].info for name in sorted(self._stored)
        }

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Read a stretch of a tensor; see `Source.read`."""
        stored = self._stored[name]
        if stored.file not in self._ranges:
            self._ranges[stored.file] = Ranges(self.places[stored.file])
        dtype = stored.info.dtype
        return self._ranges[stored.file].read(
            stored.start + start * dtype.itemsize, stop - start, dtype
        )

    def identity(self, name: str) -> object:
        """Say that only values tell; see `Source.identity`."""
        del name


def read_header(place: Place) -> dict[str, tuple[TensorInfo, int]]:
    """Read which tensors are in a safetensors file.

    Args:
        place: the file.

    Returns:
        Each tensor by name, and where its bytes start in the file.

    Raises:
        InputError: if it is not a safetensors file, or is cut off.
    """
    first = place.bytes(0, FIRST_RANGE)
    size = place.size()
    length = int.from_bytes(first[:LENGTH], "little")
    if len(first) < LENGTH or length > min(LARGEST_HEADER, size - LENGTH):
        raise InputError(f"{place.text} is no safetensors file, or is cut off.")
    end = LENGTH + length
    text = first[LENGTH:end] if end <= len(first) else place.bytes(LENGTH, end)
    try:
        header = json.loads(text)
        found = {
            name: _entry(facts, end)
            for name, facts in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{place.text} has no header of safetensors.") from None
    for name, (info, start) in found.items():
        if start + info.size > size:
            raise InputError(f"{place.text} is cut off: {name!r} is not all there.")
    return found


def _entry(facts: Mapping[str, Any], end: int) -> tuple[TensorInfo, int]:
    start, stop = facts["data_offsets"]
    info = TensorInfo(tuple(facts["shape"]), TYPES[facts["dtype"]])
    if stop - start != info.size or start < 0:
        raise ValueError
    return info, end + start


@dataclass(frozen=True)
class Shard:
    """A safetensors file that is to be written."""

    name: str
    """Its name."""

    infos: Mapping[str, TensorInfo]
    """The tensors in it."""


def plan_shards(
    infos: Mapping[str, TensorInfo], stem: str, most_bytes: int
) -> list[Shard]:
    """Share tensors out among files.

    Args:
        infos: every tensor by name.
        stem: what the files' names begin with.
        most_bytes: how large a file may be; a tensor is never cut.

    Returns:
        One file called `STEM.safetensors`, or several with their numbers, as Hugging
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
        return [Shard(f"{stem}.safetensors", groups[0])]
    return [
        Shard(f"{stem}-{number:05}-of-{len(groups):05}.safetensors", group)
        for number, group in enumerate(groups, start=1)
    ]


class SafetensorsSink:
    """Safetensors files in the making: every stretch is written to where it belongs.

    Args:
        directory: where to; an existing directory.
        infos: every tensor by name.
        stem: what the files' names begin with.
        most_bytes: how large a file may be.

    Raises:
        StorageError: if they cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        infos: Mapping[str, TensorInfo],
        *,
        stem: str = "model",
        most_bytes: int = 5_000_000_000,
    ) -> None:
        shards = plan_shards(infos, stem, most_bytes)
        self._directory = directory
        self._where: dict[str, tuple[int, int, torch.dtype]] = {}
        self._descriptors: list[int] = []
        for shard in shards:
            head, starts, end = _layout(shard)
            with _writing(directory):
                descriptor = os.open(
                    directory / shard.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644
                )
                self._descriptors.append(descriptor)
                os.truncate(descriptor, end)
                _write_all(descriptor, memoryview(head), 0)
            for name, start in starts.items():
                self._where[name] = descriptor, start, shard.infos[name].dtype
        if len(shards) > 1:
            index = {
                "metadata": {"total_size": sum(info.size for info in infos.values())},
                "weight_map": {
                    name: shard.name for shard in shards for name in shard.infos
                },
            }
            path = directory / f"{stem}.safetensors.index.json"
            with _writing(directory):
                path.write_text(f"{json.dumps(index, indent=2)}\n", encoding="utf-8")

    def write(self, name: str, start: int, stretch: Tensor) -> None:
        """Write a stretch of a tensor.

        Args:
            name: the tensor's name.
            start: index of the first entry.
            stretch: flat entries, in the tensor's type.
        """
        descriptor, offset, dtype = self._where[name]
        assert stretch.dtype == dtype, f"{name} is of type {dtype}"
        dense = stretch.detach().cpu().contiguous().reshape(-1)
        if not dense.numel():
            return
        with _writing(self._directory):
            window = memoryview(dense.view(torch.uint8).numpy())
            _write_all(descriptor, window, offset + start * dtype.itemsize)

    def close(self) -> None:
        """Bring everything to the disk."""
        with _writing(self._directory):
            for descriptor in self._descriptors:
                os.fsync(descriptor)
        self.abandon()

    def abandon(self) -> None:
        """Leave the files as they are."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()


class _writing:  # noqa: N801 - reads as a statement
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError):
            raise StorageError(
                f"Cannot write to {self.directory.name}: {error.strerror}."
            ) from None


def _layout(shard: Shard) -> tuple[bytes, dict[str, int], int]:
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
