"""Segments: many small records in one Parquet file, read as if they were still apart.

    segments/<sha256 of content>.parquet    columns: record, line
    segments/manifest.json                  which segment holds which records

A segment keeps the text of its records, so each still answers to its own digest. The
manifest is written after the segments that it lists and can be made again from them.
"""

import hashlib
import io
import json
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from mergegrid.canonical import canonical_json, digest
from mergegrid.errors import StorageError
from storage.root import Root

FOLDER = "segments"
"""Where segments are, relative to the root."""

_LOG = logging.getLogger("mergegrid")
_MANIFEST = f"{FOLDER}/manifest.json"
_VERSION = 1


class Segment(BaseModel):
    """What the manifest says about one segment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    """Digest of the file, and its name."""

    size: int
    """Bytes."""

    covered_at: float
    """When the manifest first listed it: seconds since 1970."""

    records: tuple[str, ...]
    """The names of the records in it."""

    @property
    def path(self) -> str:
        """Where the segment is, relative to the root."""
        return f"{FOLDER}/{self.sha256}.parquet"


class Segments:
    """The segments under a root; safe in threads.

    Args:
        root: where they are.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._parsed: tuple[bytes, tuple[Segment, ...]] | None = None
        self._recovered_segments = dict[str, Segment]()
        self._last: tuple[str, dict[str, bytes]] | None = None

    def listed(self) -> tuple[Segment, ...]:
        """List the segments that can be read from now on.

        Returns:
            Those that the manifest lists and that are there in full.
        """
        sizes = self._root.find(FOLDER)
        segments = self._manifest(sizes)
        if segments is None:
            segments = self._recovered(sizes)
        return tuple(part for part in segments if sizes.get(part.path) == part.size)

    def read(
        self, segment: Segment, names: Collection[str], *, anew: bool = False
    ) -> dict[str, bytes] | None:
        """Read records out of a segment; the one that was read last is remembered.

        Args:
            segment: the segment.
            names: the records that are wanted.
            anew: whether to read what is stored now, whatever is remembered.

        Returns:
            What each record's own file would hold, or None if the segment is missing
            or damaged.
        """
        last = self._last  # other threads replace it
        if anew or last is None or last[0] != segment.sha256:
            contents = self._contents(segment.sha256)
            if contents is None:
                return None
            last = self._last = segment.sha256, contents
        return {name: last[1][name] for name in names if name in last[1]}

    def add(self, contents: Mapping[str, bytes], *, now: float) -> Segment:
        """Store records as a segment; it counts once it is published.

        Args:
            contents: what each record's own file holds, by name.
            now: seconds since 1970.

        Returns:
            The segment.
        """
        pairs = [
            (name, line)
            for name in sorted(contents)
            for line in contents[name].decode().removesuffix("\n").split("\n")
        ]
        columns = {
            "record": pa.array([name for name, _ in pairs], pa.string()),
            "line": pa.array([line for _, line in pairs], pa.string()),
        }
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink, compression="zstd")
        data = sink.getvalue()
        segment = Segment(
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            covered_at=now,
            records=tuple(sorted(contents)),
        )
        self._root.write(segment.path, data)
        return segment

    def publish(self, segments: Sequence[Segment]) -> None:
        """Write the manifest.

        Args:
            segments: all that readers shall see.
        """
        fields = {
            "version": _VERSION,
            "segments": [part.model_dump() for part in segments],
        }
        text = canonical_json({**fields, "digest": digest(fields)})
        self._root.write(_MANIFEST, text.encode())

    def set_aside(self, segment: Segment) -> None:
        """Move a damaged segment out of the way.

        Args:
            segment: the segment.
        """
        _LOG.warning(
            "Setting the damaged segment %s aside, with %d records.",
            segment.sha256,
            len(segment.records),
        )
        with suppress(FileNotFoundError):
            self._root.move(segment.path, f"damaged/{segment.path}")

    def _manifest(self, sizes: Mapping[str, int]) -> tuple[Segment, ...] | None:
        if _MANIFEST not in sizes:
            return None
        data = self._root.read(_MANIFEST)
        if self._parsed is not None and self._parsed[0] == data:
            return self._parsed[1]
        fields = _intact(data)
        if fields is None:
            _LOG.warning("%s is damaged; reading every segment instead.", _MANIFEST)
            return None
        if fields.get("version") != _VERSION:
            raise StorageError(
                f"{_MANIFEST} in {self._root.url} is of version "
                f"{fields.get('version')}, which this version of mergegrid cannot "
                "read; use the version that wrote it, or a newer one."
            )
        segments = tuple(map(Segment.model_validate, fields["segments"]))
        self._parsed = data, segments
        return segments

    def _recovered(self, sizes: Mapping[str, int]) -> tuple[Segment, ...]:
        segments = list[Segment]()
        for path in sorted(sizes.keys() - {_MANIFEST}):
            sha256 = path.removeprefix(f"{FOLDER}/").removesuffix(".parquet")
            if sha256 not in self._recovered_segments:
                contents = self._contents(sha256)
                if contents is None:
                    continue
                self._recovered_segments[sha256] = Segment(
                    sha256=sha256,
                    size=sizes[path],
                    covered_at=time.time(),
                    records=tuple(sorted(contents)),
                )
            segments.append(self._recovered_segments[sha256])
        return tuple(segments)

    def _contents(self, sha256: str) -> dict[str, bytes] | None:
        path = f"{FOLDER}/{sha256}.parquet"
        try:
            data = self._root.read(path)
            # Parquet readers miss most flipped bits.
            if hashlib.sha256(data).hexdigest() != sha256:
                data = self._root.read(path)  # damaged on its way, perhaps
        except FileNotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() != sha256:
            return None
        table = pq.read_table(pa.BufferReader(data))
        pairs = zip(
            table.column("record").to_pylist(),
            table.column("line").to_pylist(),
            strict=True,
        )
        return {
            name: "".join(f"{line}\n" for _, line in lines).encode()
            for name, lines in groupby(pairs, key=itemgetter(0))
        }


def _intact(data: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(data)
        expected = fields.pop("digest")
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    return fields if digest(fields) == expected else None
