"""Tensors in safetensors files: equal tensors give equal bytes, in every process."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergegrid.canonical import JSON, canonical_json
from mergegrid.errors import StorageError
from storage.faults import reason

_METADATA = "mergegrid"
"""The only metadata key: with two or more, the order of bytes differs by process."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: JSON | None = None
) -> None:
    """Write tensors to a file.

    Args:
        path: the file, in the making; what was there is replaced.
        tensors: by name, in any memory layout and on any device.
        metadata: anything that has canonical JSON.

    Raises:
        StorageError: if the disk is full or cannot be written.
    """
    # Strided, transposed and shared memory would be written wrongly or be refused.
    dense = {
        name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)
    }
    dense = _unshared(dense)
    header = None if metadata is None else {_METADATA: canonical_json(metadata)}
    try:
        save_file(dense, path, metadata=header)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))  # it has no errno of its own
        code = int(number[1]) if number else errno.EIO
        words = reason(OSError(code, os.strerror(code)))
        raise StorageError(f"Cannot write {path.name}: {words}.") from error
    except OSError as error:
        raise StorageError(f"Cannot write {path.name}: {reason(error)}.") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors from a file; their memory is mapped, so never change the file.

    Args:
        path: the file.

    Returns:
        The tensors by name, in order of their names.
    """
    tensors = load_file(path)
    return {name: tensors[name] for name in sorted(tensors)}


def load_metadata(path: Path) -> str | None:
    """Read what was given to `save_tensors` as metadata.

    Args:
        path: the file.

    Returns:
        Its canonical JSON, or None.
    """
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(_METADATA)


def layout(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Read the shapes and types in a file without its tensors.

    Args:
        path: the file.

    Returns:
        Shape and type, such as ((96, 64), "F32"), by name.
    """
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in sorted(file.keys())}
        return {
            name: (tuple(part.get_shape()), str(part.get_dtype()))
            for name, part in slices.items()
        }


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    seen = set[int]()
    result = dict[str, Tensor]()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return result
