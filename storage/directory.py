"""Files in a local directory, each either complete or absent, also after a crash."""

import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_ATTEMPTS = 100  # at what others undo at the same time
_STALE_SECONDS = 7 * 24 * 3600  # no step takes longer, so nobody writes it any more


def flush(path: Path) -> None:
    """Make a file's bytes, or a directory's names, survive a power cut.

    Args:
        path: the file or directory.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place(temporary: Path, target: Path) -> None:
    """Give a finished file its final name, in one step.

    Args:
        temporary: the finished file, on the same file system.
        target: its name from now on; what was there before is replaced.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    flush(temporary)
    while True:
        make_folder(target.parent)
        try:
            temporary.replace(target)
        except FileNotFoundError:
            if not temporary.exists():
                raise
            continue  # somebody has just removed the empty directory
        break
    flush(target.parent)


def make_folder(path: Path) -> None:
    """Make a directory and those above it, where they are missing.

    Others may remove them, while they are empty, at any time.

    Args:
        path: the directory.

    Raises:
        FileExistsError: if something else has its name.
    """
    for _ in range(_ATTEMPTS):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            # Or it was removed before anybody could see that it is a directory.
            if os.path.lexists(path) and not path.is_dir():
                raise
        except FileNotFoundError:
            continue
        else:
            return
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def temporary_file(directory: Path) -> Generator[Path]:
    """Name a file that is gone at the end, unless it was renamed.

    Args:
        directory: where to put it; made where it is missing.

    Yields:
        The path of a file that does not exist yet.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / uuid4().hex
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def sweep(directory: Path) -> None:
    """Remove what processes that were killed have left among temporary files.

    Args:
        directory: holds temporary files and directories only.
    """
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime > time.time() - _STALE_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Directory:
    """The files of a root that is a local directory.

    Args:
        path: the directory.
        temporary: a directory on the same file system, for files in the making.
    """

    def __init__(self, path: Path, temporary: Path) -> None:
        self._path = path
        self._temporary = temporary

    def probe(self, *, create: bool) -> None:
        """Raise an OSError if the directory cannot be used.

        Args:
            create: whether to make it, and to insist that it is writable.

        Raises:
            NotADirectoryError: if there is no directory.
        """
        if create:
            self._temporary.mkdir(parents=True, exist_ok=True)
            with temporary_file(self._temporary) as path:
                path.touch()
        elif not self._path.is_dir():
            raise NotADirectoryError("there is no such directory")

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Args:
            path: relative to the root, like all that follow.

        Returns:
            The bytes.
        """
        return (self._path / path).read_bytes()

    def get(self, path: str, local: Path) -> None:
        """Copy a file out.

        Args:
            path: the file.
            local: where the copy goes.
        """
        shutil.copyfile(self._path / path, local)

    def write(self, path: str, data: bytes) -> None:
        """Store bytes under a name.

        Args:
            path: the name.
            data: the bytes.
        """
        with temporary_file(self._temporary) as temporary:
            temporary.write_bytes(data)
            place(temporary, self._path / path)

    def create(self, path: str, data: bytes) -> bool:
        """Store bytes under a new name.

        Args:
            path: the name.
            data: the bytes.

        Returns:
            False if the name exists; True if the bytes are stored, by a file system
            without links even if it did exist.

        Raises:
            FileNotFoundError: if somebody has removed what was to get the name.
        """
        target = self._path / path
        with temporary_file(self._temporary) as temporary:
            temporary.write_bytes(data)
            flush(temporary)
            while True:
                make_folder(target.parent)
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    return False
                except FileNotFoundError:
                    if not temporary.exists():
                        raise
                    continue  # somebody has just removed the empty directory
                except OSError:  # a file system without links
                    place(temporary, target)
                else:
                    flush(target.parent)
                return True

    def put(self, local: Path, path: str) -> None:
        """Store a copy of a local file under a name.

        Args:
            local: the file.
            path: the name.
        """
        with temporary_file(self._temporary) as temporary:
            try:
                os.link(local, temporary)  # the caller never writes to `local` again
            except OSError:
                shutil.copyfile(local, temporary)
            place(temporary, self._path / path)

    def move(self, path: str, target: str) -> None:
        """Rename a file.

        Args:
            path: the file.
            target: its new name.
        """
        place(self._path / path, self._path / target)

    def delete(self, path: str) -> None:
        """Remove a file, if it is there.

        Args:
            path: the file.
        """
        (self._path / path).unlink(missing_ok=True)
        with suppress(OSError):
            (self._path / path).parent.rmdir()  # unless something else is in it

    def find(self, prefix: str) -> dict[str, int]:
        """List the files in a directory and below.

        Args:
            prefix: the directory; empty for all.

        Returns:
            Sizes in bytes by path.
        """
        return {path: status.st_size for path, status in self._list(prefix)}

    def times(self, prefix: str) -> dict[str, float]:
        """Say when the files in a directory and below were written.

        Args:
            prefix: the directory; empty for all.

        Returns:
            Seconds since 1970, by path.
        """
        return {path: status.st_mtime for path, status in self._list(prefix)}

    def uploads(self) -> dict[tuple[str, str], float]:
        """List uploads in parts; a directory has none.

        Returns:
            Nothing.
        """
        return {}

    def abort(self, path: str, upload: str) -> None:
        """Give an upload in parts up; a directory has none.

        Args:
            path: of the file that was to be.
            upload: its identifier.
        """

    def _list(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        skipped = str(self._temporary.parent)
        start = len(f"{self._path}{os.sep}")
        pending = [str(self._path / prefix)]
        while pending:
            with suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.path != skipped:
                            pending.append(entry.path)
                        continue
                    with suppress(FileNotFoundError):
                        path = entry.path[start:].replace(os.sep, "/")
                        yield path, entry.stat()
