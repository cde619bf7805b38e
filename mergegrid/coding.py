"""Coding: bits and numbers as a stream of bytes that takes little more than they say.

Masks are packed, eight entries to a byte. The four bytes of float32 numbers are put
into planes, all signs and exponents first, since those repeat and the rest is noise.
Both are then coded by Zstandard, whose Huffman codes come within a percent or so of the
entropy of independent bits; at its fastest level, because masks have no repetitions
that a longer search would find.
"""

import io
from collections.abc import Callable
from typing import BinaryIO, cast

import torch
import zstandard
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mergegrid.bits import BITS, pack, unpack
from mergegrid.coded_file import CODED
from mergegrid.sources import Source

LEVEL = 1
"""Of Zstandard. On masks of glyphs, levels up to 19 save another half percent at a
twentieth of the speed."""

NUMBER = 4
"""Bytes of a float32 number."""

NUMBERS_AT_ONCE = 1 << 17
"""How many numbers share planes: a plane is one of Zstandard's blocks, 128 KiB, and has
a code of its own."""

BYTES_AT_ONCE = 1 << 20
"""How much of a file is decoded at a time."""

Write = Callable[[bytes], object]
"""Takes coded bytes."""


class BitsEncoder:
    """Codes a mask that comes in stretches.

    Args:
        write: takes coded bytes.
    """

    def __init__(self, write: Write) -> None:
        self._frame = _Frame(write)
        self._left = torch.zeros(0, dtype=torch.bool)

    def add(self, stretch: Bool[Tensor, " entry"]) -> None:
        """Code a stretch.

        Args:
            stretch: the next entries.
        """
        entries = torch.cat([self._left, stretch.cpu()])
        whole = len(entries) // BITS * BITS
        self._frame.add(pack(entries[:whole]))
        self._left = entries[whole:].clone()

    def close(self) -> None:
        """Code what is left."""
        self._frame.add(pack(self._left))
        self._frame.close()


class NumbersEncoder:
    """Codes numbers that come in stretches.

    Args:
        write: takes coded bytes.
    """

    def __init__(self, write: Write) -> None:
        self._frame = _Frame(write)
        self._waiting: list[Tensor] = []
        self._entries = 0

    def add(self, stretch: Float[Tensor, " entry"]) -> None:
        """Code a stretch.

        Args:
            stretch: the next numbers, float32.
        """
        self._waiting.append(stretch.cpu())
        self._entries += len(stretch)
        if self._entries >= NUMBERS_AT_ONCE:
            self._code(self._entries // NUMBERS_AT_ONCE * NUMBERS_AT_ONCE)

    def close(self) -> None:
        """Code what is left."""
        self._code(self._entries)
        self._frame.close()

    def _code(self, entries: int) -> None:
        if not entries:
            return
        numbers = torch.cat(self._waiting)
        for chunk in numbers[:entries].split(NUMBERS_AT_ONCE):
            planes = chunk.contiguous().view(torch.uint8).view(-1, NUMBER)
            self._frame.add(planes.T.contiguous().view(-1))
        self._waiting = [numbers[entries:].clone()]
        self._entries -= entries


class BitsDecoder:
    """Reads a mask that `BitsEncoder` coded.

    Args:
        coded: the bytes.
    """

    def __init__(self, coded: io.RawIOBase) -> None:
        self._bytes = _decoded(coded)
        self._left = torch.zeros(0, dtype=torch.bool)

    def take(self, entries: int) -> Bool[Tensor, " entry"]:
        """Read on.

        Args:
            entries: how many.

        Returns:
            The next entries.

        Raises:
            ValueError: if there are not so many, or they are damaged.
        """
        size = -(-max(entries - len(self._left), 0) // BITS)
        found = _at_most(self._bytes, size)
        if len(found) < size:
            raise ValueError("entries are missing")
        bits = torch.cat([self._left, unpack(found, (BITS * size,))])
        taken, self._left = bits[:entries], bits[entries:]
        return taken

    def end(self) -> None:
        """Check that nothing is left, which also checks what was read.

        Raises:
            ValueError: if something is, or what was read is damaged.
        """
        _refuse_more(self._bytes)


class NumbersDecoder:
    """Reads numbers that `NumbersEncoder` coded.

    Args:
        coded: the bytes.
    """

    def __init__(self, coded: io.RawIOBase) -> None:
        self._bytes = _decoded(coded)
        self._left = torch.zeros(0)

    def take(self, entries: int) -> Float[Tensor, " entry"]:
        """Read on.

        Args:
            entries: how many.

        Returns:
            The next numbers, float32.

        Raises:
            ValueError: if there are not so many, or they are damaged.
        """
        parts = [self._left]
        missing = entries - len(self._left)
        while missing > 0:
            planes = _at_most(self._bytes, NUMBER * NUMBERS_AT_ONCE)
            if not len(planes) or len(planes) % NUMBER:
                raise ValueError("numbers are missing")
            rows = planes.view(NUMBER, -1).T.contiguous()
            parts.append(rows.view(-1).view(torch.float32))
            missing -= len(rows)
        numbers = torch.cat(parts)
        taken, self._left = numbers[:entries], numbers[entries:]
        return taken

    def end(self) -> None:
        """Check that nothing is left, which also checks what was read.

        Raises:
            ValueError: if something is, or what was read is damaged.
        """
        if len(self._left):
            raise ValueError("there are more numbers than entries")
        _refuse_more(self._bytes)


class StoredBytes(io.RawIOBase):
    """The tensor of a coded file, as a stream.

    Args:
        source: the file.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0
        self._end = source.infos[CODED].entries

    def read(self, size: int = -1, /) -> bytes:
        """Read on.

        Args:
            size: most bytes; all that are left if negative.

        Returns:
            The next bytes; none at the end.
        """
        stop = self._end if size < 0 else min(self._at + size, self._end)
        found = self._source.read(CODED, self._at, stop)
        self._at = stop
        return found.numpy().tobytes()


class _Frame:
    """One frame of Zstandard, with a checksum at its end."""

    def __init__(self, write: Write) -> None:
        self._write = write
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._coder = compressor.compressobj()

    def add(self, data: UInt8[Tensor, " byte"]) -> None:
        if len(data):
            self._put(self._coder.compress(data.numpy().data))

    def close(self) -> None:
        self._put(self._coder.flush())

    def _put(self, coded: bytes) -> None:
        if coded:
            self._write(coded)


def _decoded(coded: io.RawIOBase) -> zstandard.ZstdDecompressionReader:
    decompressor = zstandard.ZstdDecompressor()
    stream = cast("BinaryIO", coded)  # it is only ever read
    return decompressor.stream_reader(stream, read_size=BYTES_AT_ONCE)


def _refuse_more(reader: zstandard.ZstdDecompressionReader) -> None:
    # The checksum is looked at when a frame is read to its end.
    if len(_at_most(reader, 1)):
        raise ValueError("there are more bytes than entries")


def _at_most(
    reader: zstandard.ZstdDecompressionReader, size: int
) -> UInt8[Tensor, " byte"]:
    room = bytearray(size)
    done = 0
    try:
        while done < size and (read := reader.readinto(memoryview(room)[done:])):
            done += read
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    if not done:
        return torch.zeros(0, dtype=torch.uint8)
    return torch.frombuffer(room, dtype=torch.uint8)[:done]
