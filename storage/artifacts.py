"""Artifacts: what a step has made, stored under the step's key.

    artifacts/<key>/manifest.json           written last: no manifest, no artifact
    artifacts/<key>/<content digest>/...    the payloads that the manifest describes
    damaged/<key>/...                       what did not match its manifest

Two writers of one key never touch each other's payloads, since different bytes live in
different folders; whichever manifest stands decides. Where the server knows conditional
writes that is the first one, and the other writers go on with it; but nothing rests on
that, or on locks, since S3 servers implement them in different ways or not at all.
"""

import logging
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any
from uuid import uuid4

from mergegrid.errors import DamagedArtifactError, StorageError
from storage.copies import Copies
from storage.faults import reason
from storage.manifest import Manifest, Payload
from storage.root import Root
from storage.tensors import load_tensors, save_tensors

__all__ = ["ArtifactStore", "Draft", "Manifest", "load_tensors", "save_tensors"]

_LOG = logging.getLogger("mergegrid")
_THREADS = 16  # small requests in flight; more gains nothing on one connection pool
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Draft:
    """An artifact in the making.

    Args:
        path: the directory where its payloads are put together.
    """

    path: Path
    """Every file in it and below becomes a payload."""

    cost: Mapping[str, Any]
    """What making it has cost; set it before the end of the `with` block."""

    manifest: Manifest | None
    """The stored manifest, after the `with` block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cost = {}
        self.manifest = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name


class ArtifactStore:
    """The artifacts under a root; safe in threads, and in any number of processes.

    Args:
        root: where they are.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._manifests = dict[str, Manifest]()
        self._copies = Copies(root)
        self._locks = defaultdict[str, threading.Lock](threading.Lock)

    def __reduce__(self) -> tuple[type["ArtifactStore"], tuple[Root]]:
        return type(self), (self.root,)

    def keys(self) -> set[str]:
        """List the artifacts that have a manifest.

        Returns:
            Their keys, from one listing.
        """
        return _keys_in(self.root.find("artifacts"))

    def missing(self, keys: Collection[str]) -> set[str]:
        """Say which artifacts are not there in full.

        Args:
            keys: the artifacts in question.

        Returns:
            Those without a manifest, or with a payload that is absent or of another
            size than its manifest says. Digests are checked when they are read.
        """
        wanted = set(keys)
        if not wanted:
            return set()
        only = f"/{_checked(min(wanted))}" if len(wanted) == 1 else ""
        sizes = self.root.find(f"artifacts{only}")
        present = wanted & _keys_in(sizes)
        with ThreadPoolExecutor(_THREADS) as pool:
            complete = list(pool.map(self._is_complete, present, repeat(sizes)))
        pairs = zip(present, complete, strict=True)
        return wanted - {key for key, is_complete in pairs if is_complete}

    @contextmanager
    def write(
        self,
        key: str,
        step: str,
        version: int,
        inputs: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> Generator[Draft]:
        """Store what the `with` block puts into the draft's directory.

        After an exception nothing is stored. Where a complete artifact has the key
        already, at the end, that one stays.

        Args:
            key: the artifact's name.
            step: the step that makes it.
            version: the step's version.
            inputs: what the key is a digest of.
            provenance: the code, packages and device that make it.

        Yields:
            The draft.

        Raises:
            StorageError: if the disk is full or the root cannot be written.
            ValueError: if the key cannot name a folder, or nothing was written.
        """
        _checked(key)
        directory = self.root.staging / f"{key}-{uuid4().hex}"
        try:
            directory.mkdir(parents=True)
            draft = Draft(directory)
            yield draft
            files = sorted(path for path in directory.rglob("*") if path.is_file())
            if not files:
                raise ValueError(f"Nothing was written for the artifact {key}.")
            manifest = Manifest(
                key=key,
                step=step,
                version=version,
                inputs=dict(inputs),
                payloads={
                    path.relative_to(directory).as_posix(): Payload.of(path)
                    for path in files
                },
                provenance=dict(provenance),
                cost=dict(draft.cost),
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            draft.manifest = self._publish(manifest, directory)
        except OSError as error:
            raise StorageError(
                f"Cannot write the artifact {key}: {reason(error)}."
            ) from error
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def manifest(self, key: str) -> Manifest:
        """Read what an artifact says about itself.

        Args:
            key: the artifact.

        Returns:
            Its manifest.

        Raises:
            StorageError: if there is no such artifact.
            DamagedArtifactError: if the manifest cannot be trusted.
        """
        try:
            return self._manifest(key)
        except FileNotFoundError:
            raise StorageError(
                f"There is no artifact {key} in {self.root.url}."
            ) from None
        except ValueError as error:
            self._set_aside(key, None)
            raise DamagedArtifactError(key, str(error)) from None

    def path(self, key: str, *, keep: bool = False) -> Path:
        """Give a local directory with an artifact's payloads, digests checked.

        A file is checked once per process and again when it changes. The files of a
        bucket are copied to the root's cache, which is kept within a size: open them
        soon, or say that you need them for longer. Never change a file there.

        Args:
            key: the artifact.
            keep: whether its files must stay for as long as this process lives.

        Returns:
            The directory.

        Raises:
            StorageError: if there is no such artifact.
            DamagedArtifactError: if a payload is not what the manifest says.
        """
        with self._locks[key]:
            manifest = self.manifest(key)
            fault = self._copies.fetch(_folder(manifest), manifest.payloads, keep=keep)
            if fault is not None:
                # Bytes are damaged on their way, too, and somebody may have replaced
                # the artifact since its manifest was read.
                manifest = self._fresh(key) or manifest
                fault = self._copies.fetch(
                    _folder(manifest), manifest.payloads, keep=keep
                )
            if fault is not None:
                self._set_aside(key, manifest)
                raise DamagedArtifactError(key, fault)
            return self._copies.base / _folder(manifest)

    def verify(
        self, keys: Collection[str] | None = None
    ) -> Iterator[tuple[str, str | None]]:
        """Check every byte that is stored; what is damaged is set aside.

        Args:
            keys: the artifacts, or None for all; what is removed meanwhile is then left
                out.

        Yields:
            A key and what is wrong with it, or None.
        """
        for key in sorted(self.keys() if keys is None else keys):
            self._manifests.pop(key, None)
            try:
                manifest = self.manifest(key)
                fault = self._copies.check(_folder(manifest), manifest.payloads)
            except DamagedArtifactError as error:
                yield key, error.reason
                continue
            except StorageError as error:
                manifest, fault = None, str(error)
            if fault is not None and keys is None and self._is_gone(key):
                continue
            if fault is not None and manifest is not None:
                self._set_aside(key, manifest)
            yield key, fault

    def _is_gone(self, key: str) -> bool:
        try:
            self.root.read(f"artifacts/{key}/manifest.json")
        except FileNotFoundError:
            return True
        return False

    def _manifest(self, key: str) -> Manifest:
        if key not in self._manifests:
            data = self.root.read(f"artifacts/{_checked(key)}/manifest.json")
            self._manifests[key] = Manifest.decode(data, key)
        return self._manifests[key]

    def _fresh(self, key: str) -> Manifest | None:
        self._manifests.pop(key, None)
        try:
            return self._manifest(key)
        except FileNotFoundError:
            return None
        except ValueError as fault:
            _LOG.warning("The artifact %s counts as missing: %s.", key, fault)
            return None

    def _is_complete(self, key: str, sizes: Mapping[str, int]) -> bool:
        def is_here(manifest: Manifest | None) -> bool:
            return manifest is not None and all(
                sizes.get(f"{_folder(manifest)}/{name}") == payload.size
                for name, payload in manifest.payloads.items()
            )

        known = self._manifests.get(key)
        return is_here(known) or is_here(self._fresh(key))

    def _publish(self, manifest: Manifest, directory: Path) -> Manifest:
        key, data = manifest.key, manifest.encode()
        path = f"artifacts/{key}/manifest.json"
        if not self.missing({key}):
            return self.manifest(key)
        for name in manifest.payloads:
            self.root.put_file(directory / name, f"{_folder(manifest)}/{name}")
        if not self.root.create(path, data):
            if not self.missing({key}):  # somebody else was faster
                return self.manifest(key)
            self.root.write(path, data)
        self._manifests[key] = manifest
        return manifest

    def _set_aside(self, key: str, manifest: Manifest | None) -> None:
        _LOG.warning("Setting the damaged artifact %s aside.", key)
        self._manifests.pop(key, None)
        folder = f"artifacts/{key}"
        names = ["manifest.json"]  # first: from then on there is no such artifact
        if manifest is not None:
            names += [f"{manifest.content}/{name}" for name in manifest.payloads]
        for name in names:
            with suppress(FileNotFoundError):
                self.root.move(f"{folder}/{name}", f"damaged/{key}/{name}")


def _folder(manifest: Manifest) -> str:
    return f"artifacts/{manifest.key}/{manifest.content}"


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} cannot name an artifact.")
    return key


def _keys_in(paths: Collection[str]) -> set[str]:
    found = set[str]()
    for path in paths:
        _, key, *rest = path.split("/")
        if rest == ["manifest.json"]:
            found.add(key)
    return found
