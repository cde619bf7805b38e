"""Model configurations: `config.json` as Hugging Face writes it, beside the weights."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from mergegrid.checkpoints import Checkpoint
from mergegrid.errors import InputError
from mergegrid.places import Place

CONFIG = "config.json"
"""The file."""

TYPE_KEYS = ("dtype", "torch_dtype")
"""Where it says what type the weights have, in newer and in older files."""

INCIDENTAL = frozenset(
    {
        *TYPE_KEYS, "_name_or_path", "_commit_hash", "transformers_version",
        "use_cache", "id2label", "label2id", "problem_type", "finetuning_task",
        "gradient_checkpointing", "unsloth_version", "unsloth_fixed", "vocab_size",
    }
)  # fmt: skip
"""Keys in which models that can be merged may differ, or that weights tell better."""


def read_config(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Read a model's configuration.

    Args:
        checkpoint: the model.

    Returns:
        Keys and values; None if there is none.

    Raises:
        InputError: if it is damaged.
    """
    place = checkpoint.directory.inside(CONFIG)
    if not checkpoint.is_directory or not place.is_file():
        return None
    return parse_config(place)


def parse_config(place: Place) -> dict[str, Any]:
    """Read a configuration.

    Args:
        place: the file.

    Returns:
        Keys and values.

    Raises:
        InputError: if it is damaged.
    """
    try:
        config = json.loads(place.bytes())
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{place.text} is no configuration of a model.")
    return config


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Tell in what two configurations differ that may keep models from being merged.

    Args:
        one: a configuration.
        other: another.

    Returns:
        The keys, sorted.
    """
    return sorted(
        key
        for key in one.keys() | other.keys()
        if key not in INCIDENTAL and one.get(key) != other.get(key)
    )


def with_type(config: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Say in a configuration what type the weights have, where it says so.

    Args:
        config: the configuration.
        dtype: the type.

    Returns:
        The same with that type, in parts of the configuration too.
    """
    name = str(dtype).removeprefix("torch.")
    return dict(_with_type(config, name))


def _with_type(config: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in TYPE_KEYS and isinstance(value, str):
            yield key, name
        elif isinstance(value, dict):
            yield key, dict(_with_type(value, name))
        else:
            yield key, value
