"""Garbage: what lies under a root and nothing will ask for again.

Marking starts from what the caller says is needed and from what running grids use.
Whatever is left and older than a grace period can be swept: artifacts, payloads that no
manifest lists, what was set aside as damaged, uploads that were cut off, checkpoints of
steps that nobody went on with, and notes of grids that were killed.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from storage.checkpoints import FOLDER as CHECKPOINTS
from storage.checkpoints import SUFFIX
from storage.claims import FOLDER as CLAIMS
from storage.claims import expired, removing
from storage.manifest import Manifest
from storage.root import Root
from storage.turns import FOLDER as TURNS

GRACE_SECONDS = 7 * 24 * 3600.0
"""How old garbage has to be: longer than any job that does not say what it uses."""

UNNEEDED = "no recorded cell needs it"
UNLISTED = "no manifest lists it"
SET_ASIDE = "it was set aside as damaged"
CUT_OFF = "an upload that was cut off"
UNFINISHED = "a checkpoint of a step that nobody went on with"
LEFT = "a note that a killed grid left"

_THREADS = 16


@dataclass(frozen=True)
class Garbage:
    """Something that can be removed."""

    path: str
    """A folder, or a file, relative to the root."""

    reason: str
    """Why."""

    size: int
    """Bytes; 0 for an upload that was cut off, which servers keep to themselves."""

    written: float
    """When it was written last: seconds since 1970, by the storage's clock."""

    files: tuple[str, ...] = ()
    """What it consists of, in the order in which it has to be removed."""

    upload: str = ""
    """Identifier, if it is an upload."""

    @property
    def key(self) -> str:
        """The artifact that it belongs to; empty if it belongs to none."""
        folder, _, rest = self.path.partition("/")
        if folder == CHECKPOINTS:
            return rest.removesuffix(SUFFIX)
        return rest.partition("/")[0] if folder == "artifacts" else ""


def find_garbage(
    root: Root,
    needed: Collection[str],
    in_use: Collection[str],
    *,
    now: float,
    grace: float,
) -> list[Garbage]:
    """Mark what is needed and list the rest.

    Args:
        root: where to look.
        needed: keys of artifacts that are to stay.
        in_use: keys of artifacts that grids use that run now.
        now: the time, by the storage's clock.
        grace: seconds; what was written later than that is no garbage.

    Returns:
        What can be removed, in order of its paths.
    """
    times = root.times()
    sizes = root.find()
    files = _Files(sizes, times)
    found: list[Garbage] = []
    for key, paths in files.below("artifacts").items():
        if key in in_use:
            continue
        if key not in needed:
            found.append(files.garbage(f"artifacts/{key}", paths, UNNEEDED))
        else:
            found += _unlisted(root, files, key, paths)
    for key, paths in files.below("damaged").items():
        found.append(files.garbage(f"damaged/{key}", paths, SET_ASIDE))
    for name, paths in files.below(CHECKPOINTS).items():
        if name.removesuffix(SUFFIX) not in in_use:
            found.append(files.garbage(f"{CHECKPOINTS}/{name}", paths, UNFINISHED))
    for (path, upload), begun in root.uploads().items():
        part = Garbage(path, CUT_OFF, 0, begun, upload=upload)
        found += [part] * (part.key not in in_use)
    for folder in (CLAIMS, TURNS):
        for path in expired(times, now, folder) & sizes.keys():
            found.append(files.garbage(path, [path], LEFT))
    old = [part for part in found if now - part.written > grace]
    return sorted(old, key=lambda part: part.path)


def sweep(
    root: Root, needed: Callable[[], Collection[str]], *, grace: float
) -> Iterator[Garbage]:
    """Remove garbage, and nothing that anybody uses or is about to use.

    Args:
        root: where to look.
        needed: gives the keys of artifacts that are to stay, as of when it is called.
        grace: seconds; what was written later than that is no garbage.

    Yields:
        What has been removed.
    """
    with removing(root, ()) as looking:
        seen = find_garbage(
            root, needed(), looking.in_use(), now=looking.now, grace=grace
        )
    doomed = {part.path for part in seen}
    with removing(root, {part.key for part in seen}) as removal:
        # In this order: a grid that has ended by now has recorded what it used.
        in_use = removal.in_use()
        garbage = find_garbage(root, needed(), in_use, now=removal.now, grace=grace)

        def delete(path: str) -> None:
            removal.check()
            root.delete(path)

        with ThreadPoolExecutor(_THREADS) as pool:
            for part in garbage:
                if part.path not in doomed:
                    continue
                first, *rest = part.files or [""]
                if part.upload:
                    removal.check()
                    root.abort(part.path, part.upload)
                else:
                    delete(first)  # a manifest: without it there is no artifact
                    list(pool.map(delete, rest))
                yield part


class _Files:
    """Two listings of a root, by folder."""

    def __init__(self, sizes: Mapping[str, int], times: Mapping[str, float]) -> None:
        self._sizes = sizes
        self._times = times

    def below(self, folder: str) -> dict[str, list[str]]:
        """Group the files in a folder by the name that comes next."""
        groups = defaultdict[str, list[str]](list)
        for path in self._sizes.keys() & self._times.keys():
            top, _, rest = path.partition("/")
            if top == folder:
                groups[rest.partition("/")[0]].append(path)
        return groups

    def garbage(self, path: str, files: Collection[str], reason: str) -> Garbage:
        """Describe files that can be removed."""
        manifest = f"{path}/manifest.json"
        return Garbage(
            path,
            reason,
            sum(self._sizes[file] for file in files),
            max(self._times[file] for file in files),
            tuple(sorted(files, key=lambda file: (file != manifest, file))),
        )


def _unlisted(
    root: Root, files: _Files, key: str, paths: Collection[str]
) -> Iterator[Garbage]:
    folders = defaultdict[str, list[str]](list)
    for path in paths:
        _, _, content, *name = path.split("/")
        if name:
            folders[content].append(path)
    manifest = f"artifacts/{key}/manifest.json"
    listed = None
    if manifest in paths:
        if len(folders) == 1:
            return  # the usual case, without a request
        with suppress(ValueError, FileNotFoundError):
            listed = Manifest.decode(root.read(manifest), key).content
        if listed is None:
            return  # damaged, or just set aside: for `verify` to say
    for content, group in folders.items():
        if content != listed:
            yield files.garbage(f"artifacts/{key}/{content}", group, UNLISTED)
