"""Local files that are known to hold the bytes that their manifests describe."""

from collections.abc import Mapping
from pathlib import Path

from storage.directory import place, temporary_file
from storage.manifest import Payload
from storage.room import Room
from storage.root import Root


class Copies:
    """The payloads under a root as local files, each checked once per process.

    The files of a local root are used where they are, those of a bucket are copied to
    the root's cache, which is kept within a size.

    Args:
        root: where the payloads are stored.
    """

    base: Path
    """The directory that folders are relative to."""

    def __init__(self, root: Root) -> None:
        self.base = root.local or root.cache
        self._root = root
        self._checked = dict[Path, tuple[int, int]]()
        self._room = Room(root.cache / "artifacts", root.staging)

    def fetch(
        self, folder: str, payloads: Mapping[str, Payload], *, keep: bool
    ) -> str | None:
        """Make sure that payloads are in `base / folder`, byte for byte.

        Args:
            folder: where they are, relative to the root and to `base`.
            payloads: what each file must hold.
            keep: whether copies stay for as long as this process lives; otherwise they
                may go when it has asked for many others.

        Returns:
            What is wrong with the stored payloads, or None.
        """
        if self._root.local is None:
            self._room.hold(self.base / folder, keep=keep)
        for name, payload in payloads.items():
            path = self.base / folder / name
            fault = self._check_once(path, payload)
            if fault is not None and self._root.local is None:
                self._room.make(payload.size)
                fault = self._copy(f"{folder}/{name}", path, payload)
            if fault is not None:
                return f"{name} {fault}"
        return None

    def check(self, folder: str, payloads: Mapping[str, Payload]) -> str | None:
        """Read every byte of stored payloads, whatever copies there are.

        Args:
            folder: where they are, relative to the root.
            payloads: what each file must hold.

        Returns:
            What is wrong with the first one that is damaged, or None.
        """
        for name, payload in payloads.items():
            if self._root.local is not None:
                fault = payload.fault(self.base / folder / name)
            else:
                fault = self._copy(f"{folder}/{name}", None, payload)
            if fault is not None:
                return f"{name} {fault}"
        return None

    def _copy(self, source: str, target: Path | None, payload: Payload) -> str | None:
        # Under its final name, a half-made copy would be taken for the whole.
        with temporary_file(self._root.staging) as temporary:
            try:
                self._root.get_file(source, temporary)
            except FileNotFoundError:
                return "is missing"
            fault = payload.fault(temporary)
            if fault is None and target is not None:
                place(temporary, target)
                self._checked[target] = _stamp(target)
            return fault

    def _check_once(self, path: Path, payload: Payload) -> str | None:
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            return "is missing"
        if self._checked.get(path) == stamp:
            return None
        fault = payload.fault(path)
        if fault is None:
            self._checked[path] = stamp
        return fault


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
