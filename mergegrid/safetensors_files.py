"""Safetensors files as sources: headers first, then ranges of bytes.

The format is a header of JSON, its length before it in eight bytes, and after it every
tensor's bytes, dense and row-major. So a stretch of a tensor is a range of the file.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mergegrid.errors import InputError
from mergegrid.places import Place
from mergegrid.ranges import Ranges
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

LENGTH = 8
"""Bytes in which the header's length is written."""

FIRST_RANGE = 1 << 16
"""Bytes of a file that are read at first: enough for the headers of most."""

LARGEST_HEADER = 100_000_000
"""Bytes; the format allows no more."""

HEADERS_AT_ONCE = 16
"""How many files' headers are asked for at a time, where each answer takes a while."""


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
        self.is_remote = any(not place.is_local for place in self.places)
        with ThreadPoolExecutor(max_workers=HEADERS_AT_ONCE) as readers:
            headers = list(readers.map(read_header, self.places))
        self._ranges: dict[int, Ranges] = {}
        self._stored: dict[str, _Stored] = {}
        for number, place in enumerate(self.places):
            for name, (info, start) in headers[number].items():
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
