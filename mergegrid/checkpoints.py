"""Checkpoints: models on disk, as safetensors files or directories of them."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergegrid.errors import InputError, StorageError
from mergegrid.parameters import Parameters

WEIGHTS = "model.safetensors"
"""The file of an unsharded model in a directory."""

REPORT = "merge.json"
"""What a merged model was made from, beside it."""

INDEX = ".safetensors.index.json"
"""End of the name of the file that lists a model's shards."""

NOT_COPIED = (
    ".bin", ".ckpt", ".gguf", ".h5", ".index.json", ".msgpack", ".onnx", ".pt", ".pth",
    ".safetensors",
)  # fmt: skip
"""Ends of the names of files that hold or list weights, which a merge replaces."""


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk."""

    directory: Path
    """Where it is."""

    files: tuple[Path, ...]
    """The safetensors files with its parameters, sorted."""

    is_directory: bool = True
    """Whether the directory belongs to the model, and is not just where its file is."""

    def read(self) -> Parameters:
        """Read the parameters.

        Returns:
            Tensors by name. Their memory is mapped: never change the files meanwhile.

        Raises:
            InputError: if a file is damaged, or a tensor is in two of them.
        """
        parameters: dict[str, Tensor] = {}
        for file in self.files:
            try:
                part = load_file(file)
            except (OSError, SafetensorError) as error:
                raise InputError(
                    f"Cannot read {file} as safetensors: {error}."
                ) from None
            twice = parameters.keys() & part.keys()
            if twice:
                raise InputError(f"{min(twice)!r} is in two files of {self.directory}.")
            parameters |= part
        return parameters

    def digests(self) -> dict[str, str]:
        """Compute what identifies the files.

        Returns:
            Name of each file to the SHA-256 of its bytes.
        """
        found: dict[str, str] = {}
        for file in self.files:
            with file.open("rb") as stream:
                found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
        return found

    def companions(self) -> list[Path]:
        """List the files that a merged model needs besides its weights.

        Returns:
            Configuration, tokenizer and the like: every visible file that holds no
            weights; none for a model that is a single file.
        """
        if not self.is_directory:
            return []
        return sorted(
            path
            for path in self.directory.iterdir()
            if path.is_file()
            and not path.name.startswith(".")
            and not path.name.endswith(NOT_COPIED)
            and path.name != REPORT
        )


def find_checkpoint(path: Path) -> Checkpoint:
    """Find the files of a model.

    Args:
        path: a safetensors file, or a directory with `model.safetensors`, with the
            index of a sharded model, or with a single safetensors file.

    Returns:
        The checkpoint.

    Raises:
        InputError: if there is no model there.
    """
    if path.is_file():
        if path.suffix != ".safetensors":
            raise InputError(
                f"{path} is no safetensors file; other formats are not read, since "
                f"they can run code. Convert it first."
            )
        return Checkpoint(path.parent, (path,), is_directory=False)
    if not path.is_dir():
        raise InputError(f"There is no model at {path}.")
    indices = sorted(path.glob(f"*{INDEX}"))
    if indices:
        return Checkpoint(path, _shards(indices[0]))
    files = sorted(path.glob("*.safetensors"))
    chosen = [file for file in files if file.name == WEIGHTS] or files
    if len(chosen) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise InputError(
            f"{path} should hold {WEIGHTS}, the index of a sharded model or one "
            f"safetensors file; it holds {found}."
        )
    return Checkpoint(path, (chosen[0],))


@contextmanager
def new_directory(path: Path) -> Generator[Path]:
    """Make a directory all at once: it appears, complete, when the block ends well.

    Args:
        path: where it shall be.

    Yields:
        An empty directory beside it, to be filled.

    Raises:
        InputError: if there is something at `path` already.
        StorageError: if it cannot be written; nothing is left behind.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already and is not empty. Give another place.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise StorageError(f"Cannot write to {path}: {error.strerror}.") from None
    try:
        yield made
        made.chmod(0o755)  # not for one user alone, as temporary directories are
        made.replace(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"Cannot write to {path}: {_reason(error)}.") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_parameters(directory: Path, parameters: Mapping[str, Tensor]) -> None:
    """Write a model as one file.

    Args:
        directory: where to.
        parameters: tensors by name; a tied one is written under each of its names.
    """
    seen: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name in sorted(parameters):
        tensor = parameters[name].detach().cpu().contiguous()
        separate[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    # Loaders of other packages look for this entry.
    save_file(separate, directory / WEIGHTS, metadata={"format": "pt"})


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = set(
            json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{index} is no index of a sharded model.") from None
    shards = tuple(index.parent / name for name in sorted(names))
    for shard in shards:
        if not shard.is_file() or shard.suffix != ".safetensors":
            raise InputError(f"{index} lists {shard.name}, which is not there.")
    return shards


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    number = re.search(r"os error (\d+)", str(error))  # safetensors has no errno
    return os.strerror(int(number[1])) if number else str(error)
