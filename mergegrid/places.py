"""Places: directories and files on a disk or in a bucket, reached alike.

Small files are read from them as a whole; for ranges of large ones see
`mergegrid.ranges`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mergegrid.errors import InputError, StorageError


@dataclass(frozen=True)
class Place:
    """A file or directory."""

    files: Any
    """The fsspec file system that it is in."""

    path: str
    """Where it is there."""

    text: str
    """How it was written, for messages and reports."""

    @classmethod
    def of(cls, text: str, relative_to: Path | None = None) -> "Place":
        """Find what a path or URL means.

        Args:
            text: a path, or a URL that fsspec knows, such as `s3://bucket/prefix`.
            relative_to: what a relative path starts from; None for here.

        Returns:
            The place, whether there is something or not.

        Raises:
            InputError: if the kind of URL is unknown, or needs a package that is not
                installed.
        """
        if "://" not in text:
            try:
                path = (relative_to or Path()) / Path(text).expanduser()
            except RuntimeError as error:  # of a user who is not there
                raise InputError(f"There is no {text}: {error}") from None
            return cls(LocalFileSystem(), str(path), text)
        protocol = text.partition("://")[0]
        try:
            # What other processes have written since is to be seen.
            options = {"use_listings_cache": False} if protocol == "s3" else {}
            files, path = fsspec.core.url_to_fs(text, **options)
        except ImportError:
            wanted = "mergegrid[s3]" if protocol == "s3" else f"fsspec[{protocol}]"
            raise InputError(f"To read {text}: pip install '{wanted}'.") from None
        except ValueError:
            raise InputError(f"{text} is no path and no URL that is known.") from None
        return cls(files, path, text)

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk."""
        return isinstance(self.files, LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def inside(self, name: str) -> "Place":
        """Give a file in this directory.

        Args:
            name: its name there.

        Returns:
            The file.
        """
        path = f"{self.path.rstrip('/')}/{name}"
        return Place(self.files, path, f"{self.text.rstrip('/')}/{name}")

    def parent(self) -> "Place":
        """Give the directory that this is in.

        Returns:
            The directory.
        """
        path = self.path.rstrip("/").rpartition("/")[0]
        text = self.text.rstrip("/").rpartition("/")[0]
        return Place(self.files, path or "/", text)

    def is_file(self) -> bool:
        """Tell whether there is a file.

        Returns:
            Whether there is.
        """
        with explained(self):
            return bool(self.files.isfile(self.path))

    def is_directory(self) -> bool:
        """Tell whether there is a directory.

        Returns:
            Whether there is; in a bucket, whether anything lies under it.
        """
        with explained(self):
            return bool(self.files.isdir(self.path))

    def listed(self) -> list["Place"]:
        """List the files in this directory, not those in its directories.

        Returns:
            The files, sorted by name.
        """
        with explained(self):
            if self.is_local:  # links to files are files
                paths = Path(self.path).iterdir()
                names = sorted(path.name for path in paths if path.is_file())
            else:
                names = sorted(
                    entry["name"].rpartition("/")[2]
                    for entry in self.files.ls(self.path, detail=True)
                    if entry["type"] == "file" and not entry["name"].endswith("/")
                )
        return [self.inside(name) for name in names]

    def size(self) -> int:
        """Tell how large the file is.

        Returns:
            Its size in bytes.
        """
        with explained(self):
            return int(self.files.size(self.path))

    def tag(self) -> str:
        """Give what the server tells versions of the file apart by.

        Returns:
            Its ETag, or "" if there is none, as on a disk.
        """
        with explained(self):
            facts = self.files.info(self.path)
        return str(facts.get("ETag") or facts.get("etag") or "").strip('"')

    def bytes(self, start: int = 0, stop: int | None = None) -> bytes:
        """Read the file, or a range of it.

        Args:
            start: the first byte.
            stop: the one after the last; None for the file's end.

        Returns:
            The bytes.
        """
        with explained(self):
            return bytes(self.files.cat_file(self.path, start=start, end=stop))


@contextmanager
def explained(place: Place) -> Generator[None]:
    """Turn what file systems raise into one line that names the place.

    Args:
        place: what is read.

    Yields:
        Nothing.

    Raises:
        StorageError: for errors of the file system, of the network and of the server.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        words = error.strerror or str(error) or type(error).__name__
        raise StorageError(
            f"Cannot read {place.text}: {' '.join(words.split()).rstrip('.')}."
        ) from None
    except Exception as error:
        # botocore's own errors (no credentials, no region) are no OSErrors.
        if not type(error).__module__.startswith(("botocore", "aiobotocore")):
            raise
        words = " ".join(str(error).split()).rstrip(".")
        raise StorageError(f"Cannot read {place.text}: {words}.") from None
