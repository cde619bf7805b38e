"""YAML files that people write, read strictly and explained in one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mergegrid.errors import InputError, UnknownNameError

Part = TypeVar("Part", bound="Section")


class _StrictLoader(yaml.SafeLoader):
    pass


def _construct(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    # PyYAML lets the last of equal keys win, silently.
    written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if len(set(written)) < len(written):
        raise yaml.constructor.ConstructorError(
            None, None, "a key is written twice", node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top is a mapping.

    Args:
        path: the file.

    Returns:
        Its keys and values.

    Raises:
        InputError: if it cannot be read, or is no YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"Cannot read {path}: it is not text.") from None
    return parse_mapping(text, source=str(path))


def fetch_mapping(url: str) -> dict[str, Any]:
    """Read a YAML file from where a URL says it is.

    Args:
        url: https, s3, or what else fsspec knows.

    Returns:
        Its keys and values.

    Raises:
        InputError: if it cannot be read, or is no YAML mapping.
    """
    try:
        with fsspec.open(url, "r", encoding="utf-8") as opened:
            text: str = opened.read()  # pyright: ignore[reportAttributeAccessIssue]
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"Cannot read {url}: {error}") from None
    return parse_mapping(text, source=url)


def parse_mapping(text: str, *, source: str) -> dict[str, Any]:
    """Read YAML text whose top is a mapping.

    Args:
        text: the text.
        source: where it comes from, for messages.

    Returns:
        Its keys and values.

    Raises:
        InputError: if it is no YAML mapping.
    """
    try:
        document = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise InputError(
            f"{source} is not YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(document, dict):
        found = "nothing" if document is None else f"a {type(document).__name__}"
        raise InputError(
            f"{source} holds {found} instead of a mapping of keys to values."
        )
    return document


class Section(BaseModel):
    """A part of a file: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, given: object) -> object:
        if isinstance(given, Mapping):
            for key in given:
                if key not in cls.model_fields:
                    raise UnknownNameError("key", str(key), cls.model_fields)
        return given


def validated(schema: type[Part], document: Mapping[str, Any], *, source: str) -> Part:
    """Check a document against its schema.

    Args:
        schema: what it should be.
        document: its keys and values.
        source: where it comes from, for messages.

    Returns:
        The schema's instance.

    Raises:
        InputError: if a key is unknown or missing, or its value is not possible; the
            message names the place.
    """
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{source}: {_explained(error)}") from None


def _explained(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    more = error.error_count() - 1
    others = f" There {'is 1 more fault' if more == 1 else f'are {more} more faults'}."
    if first["type"] == "missing":
        return f"{place} is missing.{others if more else ''}"
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    value = first["input"]
    shown = "" if isinstance(value, Mapping | list) else f" (got {value!r})"
    at = f"{place}: " if place else ""
    return f"{at}{reason}{shown}.{others if more else ''}"
