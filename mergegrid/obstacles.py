"""Obstacles to a merge, and what is odd about it, beyond names and shapes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mergegrid.errors import InputError, StorageError
from mergegrid.inputs import Inputs
from mergegrid.model_config import differing_keys
from mergegrid.sizes import show_size


def quantized(inputs: Inputs) -> Iterator[InputError]:
    """Find models whose numbers mean nothing by themselves.

    Args:
        inputs: everything that is read.

    Yields:
        What is wrong with a model.
    """
    for label, found in inputs.models().items():
        config = inputs.configs[found.text]
        if config is not None and config.get("quantization_config"):
            yield InputError(
                f"The {label} is quantized, its config.json says: its numbers mean "
                f"nothing without their scales. Merge what it was made from."
            )
        narrow = [
            name
            for name, info in inputs.sources[found.text].infos.items()
            if info.dtype.is_floating_point and info.dtype.itemsize < 2
        ]
        if narrow:
            yield InputError(
                f"The {label} has tensors of 8-bit floating-point numbers, which are "
                f"not merged: {narrow[0]!r} and {len(narrow) - 1} more. Convert it "
                f"first."
            )


def noted(inputs: Inputs) -> tuple[str, ...]:
    """List what does not stand in the way of a merge, but should be known.

    Args:
        inputs: everything that is read.

    Returns:
        Each in words.
    """
    return (*inputs.file.notes, *_differing_configs(inputs))


def too_little_room(out: Path, size: int) -> Iterator[StorageError]:
    """Find out whether a merged model has room.

    Args:
        out: where it shall be.
        size: its size in bytes.

    Yields:
        How much is missing, if it has not.
    """
    place = out.absolute()
    while not os.path.exists(place):  # noqa: PTH110 - says no where it may not look
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size:
        yield StorageError(
            f"{out} has room for {show_size(free)}, but the merged model takes "
            f"{show_size(size)}."
        )


def _differing_configs(inputs: Inputs) -> Iterator[str]:
    wanted = inputs.configs[inputs.reference().text]
    for label, found in inputs.models().items():
        config = inputs.configs[found.text]
        keys = differing_keys(wanted, config) if wanted and config else []
        if keys:
            yield (
                f"The config.json of the {label} is not that of the merged model: they "
                f"differ in {', '.join(keys)}."
            )
