"""Single values in mergekit's YAML: models, layers, types and tokenizers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mergegrid.errors import InputError, UnknownNameError

NOT_SUPPORTED = MappingProxyType(
    {
        "modules": "merging by module is not supported; models: merges every module",
        "chat_template": "chat templates are not supported; the base model's is kept",
        "residual_weight": "it is not supported, and without effect in mergekit",
        "tokens": "embeddings of single tokens are not supported",
        "pad_to_multiple_of": "padding the vocabulary is not supported",
    }
)
"""mergekit's keys that are not read."""

DTYPES = ("float16", "bfloat16", "float32", "float64")
"""The types that tensors may have."""


def read_keys(written: object, place: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    """Read keys and values.

    Args:
        written: what is written there.
        place: where that is; nothing for the top of the file.
        known: the keys that there may be.

    Returns:
        The keys and values.

    Raises:
        InputError: if they are none, or there is an unknown key.
    """
    if not isinstance(written, Mapping):
        raise InputError(f"{place}: there should be keys and values, not {written!r}.")
    for key, value in written.items():
        at = f"{place}.{key}" if place else f"{key}"
        if key in known:
            continue
        if key not in NOT_SUPPORTED:
            raise InputError(f"{at}: {UnknownNameError('key', str(key), known)}")
        if value is not None:
            raise InputError(f"{at}: {NOT_SUPPORTED[key]}.")
    return written


def read_list(written: object, place: str) -> list[tuple[str, object]]:
    """Read a list that is not empty.

    Args:
        written: what is written there.
        place: where that is.

    Returns:
        The place of each entry, and the entry.

    Raises:
        InputError: if it is none.
    """
    if not isinstance(written, list) or not written:
        raise InputError(f"{place}: there should be a list, not {written!r}.")
    return [(f"{place}[{index}]", each) for index, each in enumerate(written)]


def read_model(written: object, place: str) -> str:
    """Read which model is meant.

    Args:
        written: what is written there.
        place: where that is.

    Returns:
        Its path, as it is written.

    Raises:
        InputError: if it is no path, or there is an adapter or a revision.
    """
    if isinstance(written, Mapping):
        keys = read_keys(written, place, ("model", "lora", "override_architecture"))
        _refuse(keys, place, "lora", "override_architecture")
        written, place = keys.get("model"), f"{place}.model"
        if isinstance(written, Mapping):
            keys = read_keys(written, place, ("path", "revision"))
            _refuse(keys, place, "revision")
            written, place = keys.get("path"), f"{place}.path"
    if not isinstance(written, str) or not written:
        raise InputError(f"{place}: there should be the path of a model.")
    for mark, thing in (("+", "an adapter"), ("@", "a revision")):
        if mark in written:
            raise InputError(
                f"{place}: {written!r} asks for {thing} after its {mark!r}, which is "
                f"not supported; give the directory of a whole model."
            )
    return written


def read_layer_range(written: object, place: str) -> tuple[int, int]:
    """Read a range of layers.

    Args:
        written: what is written there.
        place: where that is.

    Returns:
        Number of the first layer, and of the one after the last.

    Raises:
        InputError: if it is none.
    """
    match written:
        case [int(start), int(stop)] if 0 <= start < stop:
            return start, stop
        case _:
            raise InputError(
                f"{place}: there should be the number of the first layer and of the "
                f"one after the last, such as [0, 32], not {written!r}."
            )


def read_dtype(written: object, place: str) -> str | None:
    """Read a type of tensors.

    Args:
        written: what is written there; None for nothing.
        place: where that is.

    Returns:
        The type's name.

    Raises:
        InputError: if it is not one of `DTYPES`.
    """
    if written is None:
        return None
    name = str(written).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"{place}: {UnknownNameError('type', name, DTYPES)}")
    return name


def read_tokenizer_source(keys: Mapping[str, Any], base: str | None) -> str | None:
    """Read where the tokenizer comes from.

    Args:
        keys: the keys at the top of the file.
        base: path of the base model.

    Returns:
        `base`; None if nothing is said about it.

    Raises:
        InputError: if it is to come from somewhere else.
    """
    place = "tokenizer_source"
    source = keys.get(place)
    if keys.get("tokenizer") is not None:
        if source is not None:
            raise InputError("tokenizer: there is a tokenizer_source already.")
        place = "tokenizer.source"
        tokenizer = read_keys(keys["tokenizer"], "tokenizer", ("source",))
        source = tokenizer.get("source", "union")
    if source in {None, "base"}:
        return source
    if base is not None and source == base:
        return "base"
    raise InputError(
        f"{place}: {source!r} is not supported; only base is, for models that have the "
        f"base model's vocabulary."
    )


def _refuse(keys: Mapping[str, Any], place: str, *names: str) -> None:
    for name in names:
        if keys.get(name) is not None:
            raise InputError(f"{place}.{name}: it is not supported.")
