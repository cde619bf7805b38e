"""Models of transformers: made from a configuration, or opened as the hub stores them.

Nothing that has to be unpickled is loaded, no code of a checkpoint is run, nothing is
downloaded, and a checkpoint that lacks a parameter is refused, not filled up.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, TypeAlias

import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.model_config import CONFIG, INCIDENTAL
from mergegrid.randomness import Stream

Auto: TypeAlias = Any
"""A class of transformers that makes models of one kind, `AutoModelFor...`."""

Configuration: TypeAlias = Any
"""A configuration of transformers, whose classes are many."""

COMPARED_ANYWAY = frozenset({"vocab_size"})
"""Keys in which merged models may differ elsewhere, but not from an architecture."""


def create_model(
    auto: Auto, values: Mapping[str, Any], *, seed: int
) -> transformers.PreTrainedModel:
    """Make a model with random parameters.

    Args:
        auto: makes models of this kind.
        values: the configuration as in `config.json`, `model_type` among it.
        seed: decides the parameters.

    Returns:
        The model, float32.

    Raises:
        InputError: if there is no such configuration.
    """
    with Stream(seed).drawing(), quiet():
        return auto.from_config(_configuration(auto, values), dtype=torch.float32)


def open_model(
    auto: Auto, directory: Path, values: Mapping[str, Any] | None = None
) -> transformers.PreTrainedModel:
    """Open a model that is stored as the hub stores it, in one file or in shards.

    Args:
        auto: see `create_model`.
        directory: where it is.
        values: what its configuration has to say; None for anything.

    Returns:
        The model, float32.

    Raises:
        InputError: if it is no model of this kind and configuration, or incomplete.
    """
    path = directory / CONFIG
    found = _read(path)
    _configuration(auto, found)
    if "quantization_config" in found:
        raise InputError(f"{directory} is quantized; merging needs the model it was.")
    try:
        with quiet():
            model, info = auto.from_pretrained(
                directory,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # which are refused below
                output_loading_info=True,
            )
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{directory} cannot be opened: {first}") from None
    problems = {
        "mismatched_keys": "has another shape than its configuration says",
        "missing_keys": "is missing",
        "unexpected_keys": "is no parameter of such a model",
    }
    for kind, problem in problems.items():
        names = sorted(n if isinstance(n, str) else n[0] for n in info[kind])
        if names:
            raise InputError(f"{directory}: {names[0]!r} {problem}.")
    if values is not None:
        _compare(directory, _configuration(auto, values), model.config, values)
    return model


def described_config(files: Mapping[str, str]) -> dict[str, Any]:
    """Read the configuration of a published model.

    Args:
        files: the text of its JSON files by name.

    Returns:
        What decides its shape.

    Raises:
        InputError: if there is none.
    """
    if CONFIG not in files:
        raise InputError(f"The pretrained model has no {CONFIG}.")
    found = json.loads(files[CONFIG])
    kept = found.keys() - INCIDENTAL | COMPARED_ANYWAY & found.keys()
    return {key: found[key] for key in sorted(kept)}


def save_model(
    model: transformers.PreTrainedModel,
    directory: Path,
    parameters: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a model as the hub stores it, in one file.

    Args:
        model: the model.
        directory: where to; an existing directory.
        parameters: what to write in place of its own parameters.
    """
    with quiet():
        model.save_pretrained(
            directory,
            state_dict=None if parameters is None else dict(parameters),
            max_shard_size="1TB",
        )


def turn_layers(model: nn.Module) -> list[str]:
    """Replace linear layers whose weight is [d_in, d_out] by PyTorch's own.

    Args:
        model: a model of transformers.

    Returns:
        Names of the weights that are [d_out, d_in] now, and to be turned back before
        they are stored.
    """
    found = [n for n, module in model.named_modules() if isinstance(module, Conv1D)]
    for name in found:
        held: Any = model.get_submodule(name)
        weight = held.weight.detach().T.contiguous()
        linear = nn.Linear(*weight.T.shape, device="meta")
        linear.weight, linear.bias = nn.Parameter(weight), held.bias
        model.set_submodule(name, linear)
    return [f"{name}.weight" for name in found]


_ALONE = RLock()
"""While transformers makes or opens a model it changes PyTorch's modules for every
thread, and how much it says is for every thread too."""


@contextmanager
def quiet() -> Generator[None]:
    """Use transformers in this block: alone in the process, and without its messages.

    Yields:
        Nothing.
    """
    with _ALONE:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def inner_model(model: nn.Module) -> tuple[str, nn.Module]:
    """Find the part of a model that a hub stores.

    Args:
        model: a model of any family.

    Returns:
        Its name, and a model of transformers; the empty name and the model itself if
        there is none inside.
    """
    for name, module in model.named_modules():
        if isinstance(module, transformers.PreTrainedModel):
            return name, module
    return "", model


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {path.parent}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} is no configuration of a model.")
    return found


def _configuration(auto: Auto, values: Mapping[str, Any]) -> Configuration:
    known = {kind.model_type for kind in auto._model_mapping}
    kind = values.get("model_type")
    if kind not in known:
        if not isinstance(kind, str):
            raise InputError("A model's configuration says no model_type.")
        name = auto.__name__.removeprefix("AutoModelFor")
        close = [each for each in known if each[:1] == kind[:1]]
        raise UnknownNameError(f"model_type for {name}", kind, sorted(close))
    try:
        return transformers.AutoConfig.for_model(**dict(values))
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {str(error).splitlines()[0]}") from None


def _compare(
    directory: Path,
    wanted: Configuration,
    found: Configuration,
    values: Mapping[str, Any],
) -> None:
    ours, theirs = wanted.to_dict(), found.to_dict()
    for key in sorted(values.keys() - INCIDENTAL | COMPARED_ANYWAY & values.keys()):
        if ours.get(key) != theirs.get(key):
            raise InputError(
                f"{directory} holds a model of another architecture: its {key} is "
                f"{theirs.get(key)!r}, not {ours.get(key)!r}."
            )
