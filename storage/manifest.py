"""What an artifact says about itself; no manifest, no artifact."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mergegrid.canonical import canonical_json, digest
from mergegrid.errors import StorageError
from storage.tensors import layout


class Payload(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    """Bytes."""

    sha256: str
    """Hexadecimal digest of the bytes."""

    tensors: dict[str, tuple[tuple[int, ...], str]] | None = None
    """Shape and type of every tensor by name, if the file is a safetensors file."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Measure a file.

        Args:
            path: the file.

        Returns:
            What the manifest says of it.
        """
        tensors = layout(path) if path.suffix == ".safetensors" else None
        return cls(size=path.stat().st_size, sha256=sha256_of(path), tensors=tensors)

    def fault(self, path: Path) -> str | None:
        """Compare a file with this description.

        Args:
            path: the file.

        Returns:
            What is wrong with it, to go after its name, or None.
        """
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size != self.size:
            return f"has {size} bytes instead of {self.size}"
        if sha256_of(path) != self.sha256:
            return "has another SHA-256 than its manifest says"
        return None


class Manifest(BaseModel):
    """What an artifact is, what it was made from, by what, and at what cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """The artifact's name: the key of the step that made it."""

    step: str
    """The step's name, such as "train"."""

    version: int
    """The step's version."""

    inputs: dict[str, Any]
    """What the key is a digest of: other steps' keys and plain values."""

    payloads: dict[str, Payload]
    """The files by name."""

    provenance: dict[str, Any]
    """The code, the packages and the device that made it."""

    cost: dict[str, Any]
    """Seconds, FLOPs, bytes and peak memory."""

    created_at: str
    """When it was complete: ISO 8601, UTC."""

    @property
    def content(self) -> str:
        """Digest of the payloads, and the name of the folder that holds them."""
        return digest({name: part.sha256 for name, part in self.payloads.items()})

    @property
    def size(self) -> int:
        """Bytes of all payloads."""
        return sum(payload.size for payload in self.payloads.values())

    def encode(self) -> bytes:
        """Write the manifest as JSON, with a digest of itself.

        Returns:
            One line of UTF-8.
        """
        fields = self.model_dump()  # as JSON, NaN would become null without a word
        return canonical_json({**fields, "digest": digest(fields)}).encode()

    @classmethod
    def decode(cls, data: bytes, key: str) -> Self:
        """Read what `encode` wrote.

        Args:
            data: the JSON.
            key: the artifact that it is found under.

        Returns:
            The manifest.

        Raises:
            ValueError: if it was truncated, altered or belongs to another artifact.
            StorageError: if another version of mergegrid wrote it.
        """
        try:
            fields = json.loads(data)
            expected = fields.pop("digest")
        except (ValueError, AttributeError, KeyError, TypeError):
            raise ValueError("its manifest cannot be read") from None
        if digest(fields) != expected:
            raise ValueError("its manifest was altered")
        try:
            manifest = cls.model_validate(fields)
        except ValidationError:  # whole, and yet not ours: not damage
            raise StorageError(
                f"The artifact {key} was described by another version of mergegrid; "
                "use that one or a newer one, or remove the artifact."
            ) from None
        if manifest.key != key:
            raise ValueError(f"its manifest is that of {manifest.key}")
        return manifest


def sha256_of(path: Path) -> str:
    """Digest a file without holding it in memory.

    Args:
        path: the file.

    Returns:
        64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
