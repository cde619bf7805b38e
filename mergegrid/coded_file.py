"""Coded files: safetensors files of one tensor of bytes, whose number is not known.

The header comes first in the format, and says where the tensor ends. So room is left
for it, and it is written last.
"""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from mergegrid.canonical import canonical_json
from mergegrid.safetensors_files import LENGTH

CODED = "coded"
"""The tensor's name."""

HEADER = 160
"""Bytes of the header with its length before it, for whatever size of the file."""


class CodedFile(AbstractContextManager["CodedFile"]):
    """A file to be filled inside a `with`; then it is on the disk.

    Args:
        path: the file; None to count what it would take, and write nothing.

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._bytes = 0
        self._file: BinaryIO | None = None if path is None else path.open("xb")
        if self._file is not None:
            self._file.seek(HEADER)

    @property
    def size(self) -> int:
        """Bytes of the file, so far."""
        return HEADER + self._bytes

    def write(self, data: bytes) -> None:
        """Write on.

        Args:
            data: the next bytes.

        Raises:
            OSError: if they cannot be written.
        """
        self._bytes += len(data)
        if self._file is not None:
            self._file.write(data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None:
            return
        with self._file as file:
            if error is None:
                file.seek(0)
                file.write(_header(self._bytes))
                file.flush()
                os.fsync(file.fileno())


def _header(size: int) -> bytes:
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = {"__metadata__": {"format": "pt"}, CODED: tensor}
    text = canonical_json(header).encode().ljust(HEADER - LENGTH)
    return len(text).to_bytes(LENGTH, "little") + text
