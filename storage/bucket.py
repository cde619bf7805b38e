"""Files in an S3 bucket, or anything else that fsspec reaches over a network."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from storage.bucket_errors import plain_errors

_PROBE_SECONDS = 6.0
_PATIENT = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3}}
_HASTY = {"connect_timeout": 3, "read_timeout": 4, "retries": {"max_attempts": 0}}

_PART_BYTES = 16 << 20
"""A file of two of these or more is sent and fetched in parts, several at a time."""

_PARTS_AT_ONCE = 8
_MOST_PARTS = 10_000
"""An S3 server takes no more parts of one file than that."""


class Bucket:
    """The files of a root that is not on this machine.

    Endpoint and credentials come from the environment or the usual AWS files, are read
    by botocore, and are kept nowhere else.

    Args:
        url: such as "s3://bucket/prefix".
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_s3 = urlsplit(url).scheme in {"s3", "s3a"}
        self._connected: tuple[int, AbstractFileSystem] | None = None

    @property
    def _files(self) -> AbstractFileSystem:
        # A parent's connections are of no use in a forked child.
        if self._connected is None or self._connected[0] != os.getpid():
            self._connected = os.getpid(), self._connect(_PATIENT)
        return self._connected[1]

    def _connect(self, config: Mapping[str, Any]) -> AbstractFileSystem:
        options: dict[str, Any] = {"use_listings_cache": False}
        if self._is_s3:
            options["config_kwargs"] = config
        protocol = urlsplit(self._url).scheme
        return fsspec.filesystem(protocol, skip_instance_cache=True, **options)

    def _path(self, path: str) -> str:
        base = urlsplit(self._url)
        return f"{base.netloc}{base.path}/{path}".rstrip("/")

    def probe(self, *, create: bool) -> None:
        """Raise an OSError, within seconds, if the bucket cannot be used.

        Args:
            create: whether to insist that it is writable.

        Raises:
            FileNotFoundError: if there is no such bucket.
        """
        files = self._connect(_HASTY)
        vars(files)["retries"] = 1  # s3fs's own, on top of botocore's
        is_asynchronous = isinstance(files, AsyncFileSystem)
        limit: Any = {"timeout": _PROBE_SECONDS} if is_asynchronous else {}
        with plain_errors():
            if create:
                path = self._path(f"probe-{uuid4().hex}")
                files.pipe_file(path, b"", **limit)
                files.rm_file(path, **limit)
            elif self._is_s3:
                # Below the prefix alone: more may be forbidden, and would be much.
                bucket, _, base = self._path("").partition("/")
                prefix = f"{base}/" if base else ""
                cast("Any", files).call_s3(
                    "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1, **limit
                )
            else:
                files.ls(self._path("").partition("/")[0], **limit)

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Args:
            path: relative to the root, like all that follow.

        Returns:
            The bytes.
        """
        with plain_errors():
            # With more than one request at a time, s3fs asks for the size first.
            options: Any = {"max_concurrency": 1} if self._is_s3 else {}
            return cast(bytes, self._files.cat_file(self._path(path), **options))

    def get(self, path: str, local: Path) -> None:
        """Copy a file out.

        Args:
            path: the file.
            local: where the copy goes.
        """
        with plain_errors():
            self._files.get_file(self._path(path), str(local), **self._in_parts())

    def write(self, path: str, data: bytes) -> None:
        """Store bytes under a name.

        Args:
            path: the name.
            data: the bytes.
        """
        with plain_errors():
            self._files.pipe_file(self._path(path), data)

    def create(self, path: str, data: bytes) -> bool:
        """Store bytes under a new name, as far as the server can tell that it is new.

        Args:
            path: the name.
            data: the bytes.

        Returns:
            False if the name exists; True if the bytes are stored, by a server that
            knows no conditional writes even if it did exist.
        """
        if self._is_s3:
            with suppress(NotImplementedError):
                try:
                    with plain_errors():
                        self._files.pipe_file(self._path(path), data, mode="create")
                except FileExistsError:
                    return False
                return True
        self.write(path, data)
        return True

    def put(self, local: Path, path: str) -> None:
        """Store a copy of a local file under a name.

        Args:
            local: the file.
            path: the name.
        """
        # An exception inside `with open(path, "wb")` would store what came before it.
        with plain_errors():
            options = self._in_parts(local.stat().st_size)
            self._files.put_file(str(local), self._path(path), **options)

    def move(self, path: str, target: str) -> None:
        """Rename a file.

        Args:
            path: the file.
            target: its new name.
        """
        with plain_errors():
            self._files.cp_file(self._path(path), self._path(target))
            self._files.rm_file(self._path(path))

    def delete(self, path: str) -> None:
        """Remove a file, if it is there.

        Args:
            path: the file.
        """
        with plain_errors(), suppress(FileNotFoundError):
            self._files.rm_file(self._path(path))

    def find(self, prefix: str) -> dict[str, int]:
        """List the files in a directory and below.

        Args:
            prefix: the directory; empty for all.

        Returns:
            Sizes in bytes by path.
        """
        return {path: int(found["size"]) for path, found in self._list(prefix)}

    def times(self, prefix: str) -> dict[str, float]:
        """Say when the files in a directory and below were written.

        Args:
            prefix: the directory; empty for all.

        Returns:
            Seconds since 1970, by the server's clock, by path.
        """
        return {path: _time_of(found) for path, found in self._list(prefix)}

    def uploads(self) -> dict[tuple[str, str], float]:
        """List the uploads in parts that were begun and neither ended nor given up.

        Returns:
            When each was begun, in seconds since 1970, by path and identifier.
        """
        if not self._is_s3:
            return {}
        start = self._path("")
        bucket, _, base = start.partition("/")
        found = dict[tuple[str, str], float]()
        position: dict[str, str] = {}
        while True:
            with plain_errors():
                page: Any = cast("Any", self._files).call_s3(
                    "list_multipart_uploads",
                    Bucket=bucket,
                    Prefix=f"{base}/" if base else "",
                    **position,
                )
            for upload in page.get("Uploads", ()):
                path = f"{bucket}/{upload['Key']}".removeprefix(f"{start}/")
                found[path, upload["UploadId"]] = upload["Initiated"].timestamp()
            if not page.get("IsTruncated"):
                return found
            position = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    def abort(self, path: str, upload: str) -> None:
        """Give an upload in parts up, and free what it has stored.

        Args:
            path: of the file that was to be.
            upload: its identifier.
        """
        bucket, _, key = self._path(path).partition("/")
        with plain_errors(), suppress(FileNotFoundError):
            cast("Any", self._files).call_s3(
                "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload
            )

    def _in_parts(self, size: int = 0) -> dict[str, Any]:
        if not self._is_s3:
            return {}
        part = max(_PART_BYTES, math.ceil(size / _MOST_PARTS))
        return {"chunksize": part, "max_concurrency": _PARTS_AT_ONCE}

    def _list(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        start = f"{self._path('')}/"
        with plain_errors():
            # Without a prefix, s3fs asks twice more about a folder that is empty.
            parent, _, name = self._path(prefix).rpartition("/")
            path = self._path(prefix)
            options: Any = {}
            if self._is_s3 and parent:
                path, options = parent, {"prefix": f"{name}/"}
            found: Any = self._files.find(path, detail=True, **options)
        for name, details in found.items():
            if details["type"] == "file":
                yield name.removeprefix(start), details


def _time_of(details: Mapping[str, Any]) -> float:
    # The name of the field is a matter of the protocol.
    for field in ("LastModified", "mtime", "created"):
        time = details.get(field)
        if isinstance(time, datetime):
            return time.timestamp()
        if isinstance(time, int | float):
            return float(time)
    return math.inf  # never older than anything
