"""What models are made from: plain values, checked, and kept beside a stored model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mergegrid.errors import InputError

ARCHITECTURE_FILE = "mergegrid.json"
"""What a hub's own files do not say about a stored model."""

Schema = TypeVar("Schema", bound=BaseModel)


def check_architecture(schema: type[Schema], architecture: Mapping[str, Any]) -> Schema:
    """Check the values that a model is made from.

    Args:
        schema: what its family takes.
        architecture: the values.

    Returns:
        The same as an object.

    Raises:
        InputError: if a value is missing, unknown or of another kind; the message names
            its place.
    """
    try:
        return schema.model_validate(dict(architecture))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"architecture: {place}: {first['msg'].lower()}.") from None


def save_architecture(
    directory: Path, family: str, architecture: Mapping[str, Any]
) -> None:
    """Write what a model is made from beside it.

    Args:
        directory: the model's directory.
        family: its family's name.
        architecture: the values.
    """
    about = {"family": family, "architecture": dict(architecture)}
    text = json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False)
    (directory / ARCHITECTURE_FILE).write_text(f"{text}\n", encoding="utf-8")


def read_architecture(directory: Path, family: str) -> dict[str, Any]:
    """Read what a stored model was made from.

    Args:
        directory: the model's directory.
        family: the family that it should be of.

    Returns:
        The values.

    Raises:
        InputError: if they are not there, or it is of another family.
    """
    path = directory / ARCHITECTURE_FILE
    if not path.is_file():
        raise InputError(f"There is no {ARCHITECTURE_FILE} in {directory}.")
    about = json.loads(path.read_text(encoding="utf-8"))
    if about.get("family") != family:
        raise InputError(
            f"{path} is for the family {about.get('family')!r}, not {family!r}."
        )
    return about["architecture"]
