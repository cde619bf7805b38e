"""Digests: what identifies the files that a merge was made from.

Files on a disk are identified by the SHA-256 of their bytes, computed while the merge
runs; files in a bucket by size and ETag, so that what is not merged is not downloaded.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from mergegrid.checkpoints import Checkpoint
from mergegrid.places import Place, explained

BYTES_AT_ONCE = 1 << 20
"""How much of a file is read at a time, between which computing them may be stopped."""

Identity: TypeAlias = dict[str, Any]
"""`path`, how a model was given; `sha256` of its files by name, or their `etag`; and
`revision`, for models of the Hugging Face Hub."""


class Stopped(Exception):  # noqa: N818 - nothing is wrong
    """Digests are not wanted any more."""


class Digests(AbstractContextManager["Digests"]):
    """Computes digests in a thread of its own, each file's once."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digest")
        self._found: dict[str, Future[str]] = {}
        self._is_stopped = False

    def start(self, checkpoint: Checkpoint) -> None:
        """Begin with a model's files.

        Args:
            checkpoint: the model.
        """
        for file in checkpoint.files:
            if file.is_local and file.path not in self._found:
                self._found[file.path] = self._pool.submit(self._sha256, file)

    def identity(self, checkpoint: Checkpoint) -> Identity:
        """Tell what a model is; wait for the digests of its files.

        Args:
            checkpoint: the model.

        Returns:
            Plain values. Paths are as they were written: they say nothing about the
            machine.
        """
        self.start(checkpoint)
        found: Identity = {"path": checkpoint.text}
        for file in checkpoint.files:
            if file.is_local:
                of_file = self._found[file.path].result()
                found.setdefault("sha256", {})[file.name] = of_file
            else:
                of_file = {"etag": file.tag(), "size": file.size()}
                found.setdefault("etag", {})[file.name] = of_file
        if checkpoint.revision is not None:
            found["revision"] = checkpoint.revision
        return found

    def _sha256(self, file: Place) -> str:
        digest = hashlib.sha256()
        with explained(file), Path(file.path).open("rb") as stream:
            while chunk := stream.read(BYTES_AT_ONCE):
                if self._is_stopped:
                    raise Stopped
                digest.update(chunk)
        return digest.hexdigest()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)
