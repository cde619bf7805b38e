"""Files in an S3 bucket, or anything else that fsspec reaches over a network."""

import errno
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec
from botocore.exceptions import (
    BotoCoreError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.exceptions import FSTimeoutError

_PROBE_SECONDS = 6.0
_PATIENT = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3}}
_HASTY = {"connect_timeout": 3, "read_timeout": 4, "retries": {"max_attempts": 0}}


@contextmanager
def _plain_errors() -> Generator[None]:
    # Botocore's errors are no OSErrors, and its texts may hold a URL with a password.
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise PermissionError(
            errno.EACCES,
            "there are no credentials; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        ) from error
    except (HTTPClientError, NoConnectionError) as error:
        url = urlsplit(str(error.kwargs.get("endpoint_url") or ""))
        name = url.hostname or "the server"
        server = f"{name}:{url.port}" if url.port else name
        words = f"{server} does not answer"
        if type(error) is HTTPClientError:  # none of the known causes
            words = f"the connection to {server} failed"
        raise ConnectionError(errno.ECONNABORTED, words) from error
    except FSTimeoutError as error:
        raise TimeoutError(errno.ETIMEDOUT, "the server does not answer") from error
    except PermissionError as error:
        words = f"permission denied ({error.strerror or error})"
        raise PermissionError(errno.EACCES, words) from error
    except BotoCoreError as error:
        words = f"the AWS settings cannot be used ({type(error).__name__})"
        raise OSError(errno.EINVAL, words) from error
    except ValueError as error:  # botocore's word for a malformed endpoint
        raise OSError(errno.EINVAL, "the endpoint's URL is malformed") from error


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
        path = self._path(f"probe-{uuid4().hex}")
        with _plain_errors():
            if create:
                files.pipe_file(path, b"", **limit)
                files.rm_file(path, **limit)
            else:
                files.ls(path.partition("/")[0], **limit)

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Args:
            path: relative to the root, like all that follow.

        Returns:
            The bytes.
        """
        with _plain_errors():
            return cast(bytes, self._files.cat_file(self._path(path)))

    def get(self, path: str, local: Path) -> None:
        """Copy a file out.

        Args:
            path: the file.
            local: where the copy goes.
        """
        with _plain_errors():
            self._files.get_file(self._path(path), str(local))

    def write(self, path: str, data: bytes) -> None:
        """Store bytes under a name.

        Args:
            path: the name.
            data: the bytes.
        """
        with _plain_errors():
            self._files.pipe_file(self._path(path), data)

    def put(self, local: Path, path: str) -> None:
        """Store a copy of a local file under a name.

        Args:
            local: the file.
            path: the name.
        """
        # An exception inside `with open(path, "wb")` would store what came before it.
        with _plain_errors():
            self._files.put_file(str(local), self._path(path))

    def move(self, path: str, target: str) -> None:
        """Rename a file.

        Args:
            path: the file.
            target: its new name.
        """
        with _plain_errors():
            self._files.cp_file(self._path(path), self._path(target))
            self._files.rm_file(self._path(path))

    def delete(self, path: str) -> None:
        """Remove a file, if it is there.

        Args:
            path: the file.
        """
        with _plain_errors(), suppress(FileNotFoundError):
            self._files.rm_file(self._path(path))

    def find(self, prefix: str) -> dict[str, int]:
        """List the files in a directory and below.

        Args:
            prefix: the directory; empty for all.

        Returns:
            Sizes in bytes by path.
        """
        start = f"{self._path('')}/"
        with _plain_errors():
            # Without a prefix, s3fs asks twice more about a folder that is empty.
            parent, _, name = self._path(prefix).rpartition("/")
            path = self._path(prefix)
            options: Any = {}
            if self._is_s3 and parent:
                path, options = parent, {"prefix": f"{name}/"}
            found: Any = self._files.find(path, detail=True, **options)
        return {
            name.removeprefix(start): int(details["size"])
            for name, details in found.items()
            if details["type"] == "file"
        }
