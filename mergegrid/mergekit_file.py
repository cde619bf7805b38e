"""mergekit's YAML, as far as it is supported.

`models:` and `slices:` over all layers come out alike: as stretches of layers with the
models that are merged there. Everything else is refused with its place in the file,
such as `slices[0].sources[1].layer_range`; nothing is passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mergegrid.errors import InputError
from mergegrid.mergekit_layers import Stretch
from mergegrid.mergekit_parameters import Parameters, read_parameters
from mergegrid.mergekit_values import (
    read_dtype,
    read_keys,
    read_layer_range,
    read_list,
    read_model,
    read_tokenizer_source,
)

KEYS = (
    "merge_method", "models", "slices", "base_model", "parameters", "dtype",
    "out_dtype", "tokenizer_source", "tokenizer",
)  # fmt: skip
"""The keys at the top of a file."""


@dataclass(frozen=True)
class MergekitFile:
    """A file of mergekit's."""

    method: str
    """mergekit's name of the method."""

    stretches: tuple[Stretch, ...]
    """The model's layers, from first to last; the same models in each."""

    is_sliced: bool
    """Whether they were written as `slices`."""

    base_model: str | None
    """The base model's path, as it is written."""

    parameters: Parameters
    """Those for the whole merge."""

    dtype: str | None
    """The type that mergekit merges in."""

    out_dtype: str | None
    """The type that is written; None for `dtype`."""

    tokenizer_source: str | None
    """`base`, or None."""


def is_mergekit(document: Mapping[str, Any]) -> bool:
    """Tell mergekit's files from recipe files.

    Args:
        document: the file's keys and values.

    Returns:
        Whether it is one of mergekit's.
    """
    return "merge_method" in document


def read_mergekit(document: Mapping[str, Any]) -> MergekitFile:
    """Read a file of mergekit's.

    Args:
        document: its keys and values.

    Returns:
        The file.

    Raises:
        InputError: if something in it is wrong or not supported; the message begins
            with the place.
    """
    keys = read_keys(document, "", KEYS)
    method = keys.get("merge_method")
    if not isinstance(method, str):
        raise InputError(f"merge_method: {method!r} should be the name of a method.")
    base = keys.get("base_model")
    base = None if base is None else read_model(base, "base_model")
    written = [key for key in ("models", "slices") if keys.get(key)]
    if len(written) != 1:
        found = "both" if written else "neither"
        raise InputError(f"There should be models: or slices:; there is {found}.")
    is_sliced = written == ["slices"]
    return MergekitFile(
        method=method,
        stretches=(
            tuple(_slices(keys["slices"], base))
            if is_sliced
            else (_all_layers(keys["models"]),)
        ),
        is_sliced=is_sliced,
        base_model=base,
        parameters=read_parameters(keys.get("parameters"), "parameters"),
        dtype=read_dtype(keys.get("dtype"), "dtype"),
        out_dtype=read_dtype(keys.get("out_dtype"), "out_dtype"),
        tokenizer_source=read_tokenizer_source(keys, base),
    )


def _all_layers(written: object) -> Stretch:
    entries = [
        (place, read_keys(each, place, ("model", "parameters")))
        for place, each in read_list(written, "models")
    ]
    return Stretch("models", 0, None, _models(entries), read_parameters(None, ""))


def _slices(written: object, base: str | None) -> Iterator[Stretch]:
    first: Stretch | None = None
    stop = 0
    for place, each in read_list(written, "slices"):
        keys = read_keys(each, place, ("sources", "base_model", "parameters"))
        own = keys.get("base_model")
        if own is not None and read_model(own, f"{place}.base_model") != base:
            raise InputError(
                f"{place}.base_model: a base model for some layers is not supported."
            )
        stretch = _stretch(keys, place)
        first = first or stretch
        if stretch.start != stop:
            raise InputError(
                f"{place}.sources[0].layer_range: it starts at {stretch.start}, not at "
                f"{stop}; slices must hold all layers, in order, each once."
            )
        if stretch.models.keys() != first.models.keys():
            raise InputError(
                f"{place}.sources: other models than in {first.place} are not "
                f"supported."
            )
        assert stretch.stop is not None, "slices have ranges"
        stop = stretch.stop
        yield stretch


def _stretch(keys: Mapping[str, Any], place: str) -> Stretch:
    entries = [
        (at, read_keys(each, at, ("model", "layer_range", "parameters")))
        for at, each in read_list(keys.get("sources"), f"{place}.sources")
    ]
    ranges = [
        read_layer_range(source.get("layer_range"), f"{at}.layer_range")
        for at, source in entries
    ]
    for (at, _), each in zip(entries, ranges, strict=True):
        if each != ranges[0]:
            raise InputError(
                f"{at}.layer_range: {list(each)} is not {list(ranges[0])} as in "
                f"{entries[0][0]}; only layers of the same number are merged."
            )
    parameters = read_parameters(keys.get("parameters"), f"{place}.parameters")
    return Stretch(place, *ranges[0], _models(entries), parameters)


def _models(entries: list[tuple[str, Mapping[str, Any]]]) -> dict[str, Parameters]:
    models: dict[str, Parameters] = {}
    for place, keys in entries:
        model = read_model(keys.get("model"), f"{place}.model")
        if model in models:
            raise InputError(f"{place}.model: {model!r} is there twice.")
        models[model] = read_parameters(keys.get("parameters"), f"{place}.parameters")
    return models
