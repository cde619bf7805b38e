"""Published models: pretrained models and experts that are fetched, not trained.

A published model is a directory in the format of its hub - `config.json`, safetensors,
tokenizer files - at a path, in a bucket, or on the Hugging Face Hub. Nothing that has
to be unpickled is loaded.
"""

import functools
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mergegrid.canonical import JSON
from mergegrid.errors import InputError
from mergegrid.hub import fetch_from_hub, is_hub_name
from mergegrid.places import Place, explained

FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""The files that are read: parameters, configuration, tokenizer."""


@dataclass(frozen=True)
class Published:
    """A model that somebody has published."""

    place: str
    """A directory, its URL, or its name on the Hugging Face Hub,
    `OWNER/NAME[@REVISION]`."""

    bytes: int = 0
    """Size of its files, about; 0 if it is not known."""

    licence: str = ""
    """What its publisher lets one do with it; empty if it is not known."""

    @property
    def is_on_hub(self) -> bool:
        """Whether it is a name on the hub, and not a place that one can look at."""
        return (
            "://" not in self.place
            and not Path(self.place).expanduser().exists()
            and is_hub_name(self.place)
        )

    def identity(self) -> dict[str, JSON]:
        """Tell what the model is, for a key.

        Returns:
            On the hub its name and revision, which need no look at it; elsewhere the
            SHA-256 of its files, or in a bucket their sizes and ETags, so that the same
            model at another place is the same model.

        Raises:
            InputError: if there is nothing.
        """
        if self.is_on_hub:
            return {"hub": self.place}
        return {"files": _identify(self.place, _look(self.place))}

    def configuration(self) -> dict[str, str]:
        """Read what the model says about itself, fetching nothing else of it.

        Returns:
            The text of its JSON files by name.

        Raises:
            InputError: if there is nothing, or it cannot be fetched.
        """
        if self.is_on_hub:
            directory = fetch_from_hub(self.place, ("*.json",))
            return {f.name: f.read_text("utf-8") for f in directory.glob("*.json")}
        place = Place.of(self.place)
        names = [name for name in _files(place) if name.endswith(".json")]
        return {name: place.inside(name).bytes().decode() for name in names}

    @contextmanager
    def fetched(self) -> Generator[Path]:
        """Have the model in a directory while this block runs.

        Yields:
            The directory: its own, the hub's cache, or a temporary copy.

        Raises:
            InputError: if there is nothing, or it cannot be fetched.
        """
        if self.is_on_hub:
            yield fetch_from_hub(self.place, FILES)
            return
        place = Place.of(self.place)
        if place.is_local:
            _files(place)
            yield Path(place.path)
            return
        with TemporaryDirectory(prefix="mergegrid-") as directory:
            for name in _files(place):
                source, target = place.inside(name), Path(directory) / name
                with explained(source):
                    source.files.get_file(source.path, str(target))
            yield Path(directory)


def _files(place: Place) -> list[str]:
    # Lists the files of a model that are read, by name.
    with explained(place):
        is_directory = place.files.isdir(place.path)
        paths = place.files.ls(place.path, detail=False) if is_directory else []
    names = sorted(str(path).rstrip("/").rpartition("/")[2] for path in paths)
    found = [name for name in names if any(Path(name).match(p) for p in FILES)]
    if not is_directory:
        raise InputError(
            f"There is no model at {place.text}: name a directory with its config.json "
            f"and safetensors, or a model on the Hugging Face Hub as OWNER/NAME."
        )
    if not any(name.endswith(".safetensors") for name in found):
        raise InputError(
            f"There are no parameters in {place.text}: no file there ends in "
            f".safetensors. Pickled parameters (.bin, .pt) are not loaded; save the "
            f"model with safetensors."
        )
    return found


def _look(text: str) -> tuple[tuple[str, int, str], ...]:
    """Look at a model's files: name, size, and what changes when they do."""
    place = Place.of(text)
    found: list[tuple[str, int, str]] = []
    for name in _files(place):
        with explained(place):
            facts = place.files.info(place.inside(name).path)
        tag = str(facts.get("ETag") or facts.get("mtime"))
        found.append((name, int(facts["size"]), tag))
    return tuple(found)


@functools.lru_cache(maxsize=256)
def _identify(text: str, seen: tuple[tuple[str, int, str], ...]) -> dict[str, JSON]:
    """Identify files, reading those on a disk once in a process unless they change."""
    place = Place.of(text)
    if not place.is_local:
        return {name: f"{size} bytes, {tag}" for name, size, tag in seen}
    found: dict[str, JSON] = {}
    for name, _, _ in seen:
        with explained(place), Path(place.inside(name).path).open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
