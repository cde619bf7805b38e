"""The place that holds everything a project makes: a directory or a bucket."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Protocol, Self, TypeVar
from urllib.parse import urlsplit

import fsspec

from mergegrid.errors import InputError, StorageError
from storage.directory import Directory, sweep
from storage.faults import reason
from storage.patience import Patience

_T = TypeVar("_T")


class _Files(Protocol):
    def probe(self, *, create: bool) -> None: ...
    def read(self, path: str) -> bytes: ...
    def get(self, path: str, local: Path) -> None: ...
    def write(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def put(self, local: Path, path: str) -> None: ...
    def move(self, path: str, target: str) -> None: ...
    def delete(self, path: str) -> None: ...
    def find(self, prefix: str) -> dict[str, int]: ...
    def times(self, prefix: str) -> dict[str, float]: ...
    def uploads(self) -> dict[tuple[str, str], float]: ...
    def abort(self, path: str, upload: str) -> None: ...


class Root:
    """Files by relative path, each either complete or absent.

    Operations are safe in threads and are tried again, for a long while, where the
    cause can pass: a server that is away is waited for. What is then still wrong is a
    `StorageError` of one line; a file that is not there is a `FileNotFoundError`. A
    root can be pickled, and is connected anew where it arrives.

    Args:
        url: a directory (with or without "file://") or "s3://bucket/prefix"; nothing
            is checked before the first operation, so prefer `Root.open`.

    Raises:
        InputError: if the URL cannot name a root.
    """

    url: str
    """What names the root: an absolute path or a URL."""

    local: Path | None
    """The directory, if the root is one."""

    cache: Path
    """A local directory for what can be made again: inside a local root, and below
    the user's cache directory for any other."""

    _files: _Files

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise InputError(
                f"The URL of a root on {parts.scheme} holds a user name; credentials "
                "belong in the environment or in the usual AWS files."
            )
        if parts.scheme in {"", "file"}:
            path = parts.path if parts.scheme else url
            if not path:
                raise InputError(f"{url!r} names no directory.")
            self.local = Path(path).expanduser().absolute()
            self.url = str(self.local)
            self.cache = self.local / ".cache"
            self._files = Directory(self.local, self.staging)
        else:
            if parts.query or parts.fragment:
                raise InputError(
                    f"The URL of the root on {parts.netloc} holds more than a bucket "
                    "and a prefix; settings belong in the environment or in the usual "
                    "AWS files."
                )
            if parts.scheme not in fsspec.available_protocols() or not parts.netloc:
                raise InputError(
                    f"{url!r} names no root; give a directory or s3://bucket/prefix."
                )
            from storage.bucket import Bucket  # takes half a second

            self.local = None
            self.url = url.rstrip("/")
            self.cache = _cache_of(self.url)
            self._files = Bucket(self.url)
        self._patience = Patience(self.url)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self.url,)

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Self:
        """Check, within seconds, that a root answers.

        Args:
            url: a directory (with or without "file://") or "s3://bucket/prefix".
            create: whether to make a directory that is missing, and to insist that the
                root is writable; without it the root must exist and may be read-only.

        Returns:
            The root.

        Raises:
            StorageError: if it does not answer, does not exist, or cannot be written.
        """
        root = cls(url)
        use = "write to" if create else "read"
        try:
            root._files.probe(create=create)
        except FileNotFoundError as error:
            raise StorageError(
                f"Cannot {use} {root.url}: there is no such bucket."
            ) from error
        except OSError as error:
            raise StorageError(f"Cannot {use} {root.url}: {reason(error)}.") from error
        if create:
            sweep(root.staging)
        return root

    @property
    def staging(self) -> Path:
        """Where files are put together before they are stored."""
        return self.cache / "staging"

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Args:
            path: relative to the root, with "/" between its parts.

        Returns:
            The bytes.
        """
        return self._try("read", path, lambda: self._files.read(_checked(path)))

    def get_file(self, path: str, local: Path) -> None:
        """Copy a file out; after an error, `local` may hold a part of it.

        Args:
            path: the file, relative to the root.
            local: where the copy goes.
        """
        self._try("read", path, lambda: self._files.get(_checked(path), local))

    def write(self, path: str, data: bytes) -> None:
        """Store bytes under a name, replacing what was there.

        Args:
            path: the name, relative to the root.
            data: the bytes.
        """
        self._try("write", path, lambda: self._files.write(_checked(path), data))

    def create(self, path: str, data: bytes) -> bool:
        """Store bytes under a new name.

        Nothing may rest on this alone: servers differ in what they know of conditional
        writes, and an answer that is lost on its way is asked for again.

        Args:
            path: the name, relative to the root.
            data: the bytes.

        Returns:
            False if the name exists, and what it names stays as it is.
        """
        return self._try(
            "write", path, lambda: self._files.create(_checked(path), data)
        )

    def put_file(self, local: Path, path: str) -> None:
        """Store a local file under a name, replacing what was there.

        Args:
            local: the file, which must not be changed in place afterwards: on the same
                file system, both names share its bytes.
            path: the name, relative to the root.
        """
        self._try("write", path, lambda: self._files.put(local, _checked(path)))

    def move(self, path: str, target: str) -> None:
        """Rename a file.

        Args:
            path: the file, relative to the root.
            target: its new name; what was there is replaced.
        """
        self._try(
            "move", path, lambda: self._files.move(_checked(path), _checked(target))
        )

    def delete(self, path: str) -> None:
        """Remove a file, if it is there.

        Args:
            path: the file, relative to the root.
        """
        self._try("delete", path, lambda: self._files.delete(_checked(path)))

    def find(self, prefix: str = "") -> dict[str, int]:
        """List the files in a directory and below; `cache` is not looked into.

        Args:
            prefix: the directory, relative to the root.

        Returns:
            Sizes in bytes by path.
        """
        directory = prefix.rstrip("/")
        return self._try("list", prefix, lambda: self._files.find(directory))

    def times(self, prefix: str = "") -> dict[str, float]:
        """Say when the files in a directory and below were written.

        Args:
            prefix: the directory, relative to the root.

        Returns:
            Seconds since 1970 by path, by the clock of whoever keeps the files: compare
            them with one another, and not with this machine's clock.
        """
        directory = prefix.rstrip("/")
        return self._try("list", prefix, lambda: self._files.times(directory))

    def uploads(self) -> dict[tuple[str, str], float]:
        """List the uploads in parts that were begun and neither ended nor given up.

        Returns:
            When each was begun, as `times` has it, by path and identifier.
        """
        return self._try("list", "uploads", self._files.uploads)

    def abort(self, path: str, upload: str) -> None:
        """Give an upload in parts up, and free what it has stored.

        Args:
            path: of the file that was to be, relative to the root.
            upload: its identifier.
        """
        self._try("delete", path, lambda: self._files.abort(path, upload))

    def _try(self, verb: str, path: str, operation: Callable[[], _T]) -> _T:
        try:
            return self._patience.call(operation)
        except FileNotFoundError as error:
            if verb in {"write", "list"}:  # the bucket itself is gone
                raise self._error(verb, path, error) from error
            raise
        except OSError as error:
            raise self._error(verb, path, error) from error

    def _error(self, verb: str, path: str, error: OSError) -> StorageError:
        return StorageError(f"Cannot {verb} {path} in {self.url}: {reason(error)}.")


def _checked(path: str) -> str:
    if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path!r} is no path relative to a root.")
    return path


def _cache_of(url: str) -> Path:
    # Buckets of one name on two servers are two roots.
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    name = hashlib.sha256(f"{server} {url}".encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "mergegrid" / name
