"""Checkpoints: models as they are stored, in safetensors files or directories of them.

A model is given by a path, a URL such as `s3://bucket/prefix`, or the name of one that
Hugging Face's cache on this machine holds.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from mergegrid.errors import InputError
from mergegrid.hub import find_in_cache, is_hub_name
from mergegrid.places import Place
from mergegrid.safetensors_files import SafetensorsSource

WEIGHTS = "model.safetensors"
"""The file of an unsharded model in a directory."""

REPORT = "merge.json"
"""What a merged model was made from, beside it."""

INDEX = ".safetensors.index.json"
"""End of the name of the file that lists a model's shards."""


@dataclass(frozen=True)
class Checkpoint:
    """A stored model."""

    text: str
    """How it was given."""

    directory: Place
    """Where it is."""

    files: tuple[Place, ...]
    """The safetensors files with its parameters, sorted."""

    is_directory: bool = True
    """Whether the directory belongs to the model, and is not just where its file is."""

    listed: frozenset[str] | None = None
    """The tensors that its index lists, if it has one."""

    revision: str | None = None
    """Its commit on the Hugging Face Hub, if it was given by its name there."""

    def open(self) -> SafetensorsSource:
        """Read the headers of its files.

        Returns:
            The parameters, to be read.

        Raises:
            InputError: if a file is damaged, a tensor is in two of them, or one that
                the index lists is in none.
        """
        source = SafetensorsSource(self.files)
        for name in sorted((self.listed or frozenset()) - source.infos.keys()):
            raise InputError(
                f"The index of {self.text} lists {name!r}, which is in none of its "
                f"files."
            )
        return source


def find_checkpoint(text: str, *relative_to: Path) -> Checkpoint:
    """Find the files of a model.

    Args:
        text: a safetensors file; a directory with `model.safetensors`, with the index
            of a sharded model, or with a single safetensors file; or the name of a
            model in the local cache of Hugging Face.
        relative_to: where a relative path may start from, the first where there is
            something; here, if none is given.

    Returns:
        The checkpoint.

    Raises:
        InputError: if there is no model there.
    """
    places = [Place.of(text, start) for start in relative_to or (Path(),)]
    for place in places:
        if place.is_file():
            return _single_file(text, place)
        if place.is_directory():
            return _in_directory(text, place)
    if is_hub_name(text):
        found = find_in_cache(text)
        directory = replace(Place.of(str(found.directory)), text=text)
        return _in_directory(text, directory, found.revision)
    shown = places[0].path if places[0].is_local else text
    raise InputError(f"There is no model at {shown}.")


def _single_file(text: str, place: Place) -> Checkpoint:
    if not place.name.endswith(".safetensors"):
        raise InputError(
            f"{place.text} is no safetensors file; other formats are not read, since "
            f"they can run code. Convert it first."
        )
    return Checkpoint(text, place.parent(), (place,), is_directory=False)


def _in_directory(text: str, place: Place, revision: str | None = None) -> Checkpoint:
    files = place.listed()
    index = _only_index([file for file in files if file.name.endswith(INDEX)])
    if index is not None:
        shards, listed = _shards(place, index, {file.name for file in files})
        return Checkpoint(text, place, shards, listed=listed, revision=revision)
    models = [file for file in files if file.name.endswith(".safetensors")]
    chosen = [file for file in models if file.name == WEIGHTS] or models
    if len(chosen) != 1:
        found = ", ".join(file.name for file in models) or "none"
        raise InputError(
            f"{place.text} should hold {WEIGHTS}, the index of a sharded model or one "
            f"safetensors file; it holds {found}."
        )
    return Checkpoint(text, place, (chosen[0],), revision=revision)


def _only_index(indices: list[Place]) -> Place | None:
    usual = [file for file in indices if file.name == f"model{INDEX}"]
    chosen = usual or indices
    if len(chosen) > 1:
        found = ", ".join(file.name for file in chosen)
        raise InputError(
            f"{chosen[0].parent().text} should hold the index of one model; it holds "
            f"{found}."
        )
    return chosen[0] if chosen else None


def _shards(
    directory: Place, index: Place, present: set[str]
) -> tuple[tuple[Place, ...], frozenset[str]]:
    try:
        weight_map = json.loads(index.bytes())["weight_map"]
        names = sorted(set(weight_map.values()))
        listed = frozenset(weight_map)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{index.text} is no index of a sharded model.") from None
    gone = [
        str(name)
        for name in names
        if name not in present or not name.endswith(".safetensors")
    ]
    if gone:
        verb = "is" if len(gone) == 1 else "are"
        raise InputError(
            f"{index.text} lists {', '.join(gone)}, which {verb} not there."
        )
    return tuple(directory.inside(name) for name in names), listed
