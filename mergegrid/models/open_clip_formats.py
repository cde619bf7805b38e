"""CLIP models as hubs store them, read as open_clip names their parameters.

Models are read in open_clip's format (`open_clip_config.json` and its safetensors), in
that of transformers' CLIPModel, and in our own; of an expert also the vision tower
alone, as transformers' CLIPVisionModel or in any safetensors file with open_clip's
names. Parameters are renamed and stacked, never recomputed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mergegrid.errors import InputError
from mergegrid.models.open_clip_architecture import (
    MODEL_SECTIONS,
    PIXEL_DEVIATION,
    PIXEL_MEAN,
    model_sections,
    read_architecture,
)

OPEN_CLIP_CONFIGURATION = "open_clip_config.json"
OPEN_CLIP_PARAMETERS = "open_clip_model.safetensors"
CONFIGURATION = "config.json"
PARAMETERS = "model.safetensors"
"""What our own models are written to, beside what is no parameter."""

FAMILY_NAME = "open_clip"
"""What our own configurations say that they are for."""

PICKLED = (".pt", ".pth", ".bin", ".pkl")
"""Endings of pickled files."""

_TEXT_PARTS = (
    "text_projection",
    "positional_embedding",
    "token_embedding.",
    "transformer.",
    "ln_final.",
)
"""What open_clip's CLIP holds of the text tower without the prefix `text.`."""

_VISION_DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
}
_TEXT_DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
_EMBEDDING_DEFAULT = 512
"""What transformers takes where a configuration says nothing."""

_LAYER_PARTS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_VISION_NAMES = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
_TEXT_NAMES = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True)
class Stored:
    """A model as a hub stores it, in open_clip's terms."""

    parameters: Mapping[str, Tensor]
    """By the names of `open_clip.CustomTextCLIP`; of a vision tower those that begin
    with `visual.` alone, of which `visual.proj` may be missing."""

    model: Mapping[str, Any] | None
    """The sections of an architecture that say what the model is; None if the
    directory does not say."""


def read_model_sections(texts: Mapping[str, str]) -> dict[str, Any]:
    """Learn from a directory's configuration what model it holds.

    Args:
        texts: the configuration files that are there, by name.

    Returns:
        The sections of an architecture that say what the model is, and how pixels are
        normalized.

    Raises:
        InputError: if no file says so, or it says that the model is none of CLIP's.
    """
    if OPEN_CLIP_CONFIGURATION in texts:
        written = json.loads(texts[OPEN_CLIP_CONFIGURATION])
        pixels = written.get("preprocess_cfg", {})
        return model_sections(written["model_cfg"]) | {
            "mean": list(pixels.get("mean", PIXEL_MEAN)),
            "deviation": list(pixels.get("std", PIXEL_DEVIATION)),
        }
    configuration = json.loads(texts.get(CONFIGURATION, "{}"))
    if configuration.get("model_type") == "clip":
        return _transformers_sections(configuration) | {
            "mean": list(PIXEL_MEAN),
            "deviation": list(PIXEL_DEVIATION),
        }
    if configuration.get("family") == FAMILY_NAME:
        written = read_architecture(configuration["architecture"]).model_dump()
        return {name: written[name] for name in (*MODEL_SECTIONS, "mean", "deviation")}
    raise InputError(
        f"there is neither an {OPEN_CLIP_CONFIGURATION} nor a {CONFIGURATION} of "
        f"transformers' CLIPModel"
    )


def read_model(directory: Path) -> Stored:
    """Read a model with both towers.

    Args:
        directory: in open_clip's or transformers' format.

    Returns:
        The model.

    Raises:
        InputError: if it is in neither.
    """
    texts = _configurations(directory)
    try:
        sections = read_model_sections(texts)
    except InputError as error:
        raise InputError(f"{directory} holds no CLIP model: {error}.") from None
    model = {name: sections[name] for name in MODEL_SECTIONS}
    if OPEN_CLIP_CONFIGURATION in texts:
        return Stored(_open_clip_names(_tensors(directory)), model)
    if "family" in json.loads(texts[CONFIGURATION]):
        return Stored(load_file(directory / PARAMETERS), model)
    return Stored(_transformers_names(_tensors(directory)), model)


def read_expert(directory: Path) -> Stored:
    """Read a vision tower, or a model with both.

    Args:
        directory: in one of the formats.

    Returns:
        The vision tower's parameters, by names that begin with `visual.`.

    Raises:
        InputError: if there are no parameters, or only pickled ones.
    """
    texts = _configurations(directory)
    configuration = json.loads(texts.get(CONFIGURATION, "{}"))
    kind = configuration.get("model_type", configuration.get("family"))
    model: Mapping[str, Any] | None = None
    if OPEN_CLIP_CONFIGURATION in texts or kind in {"clip", FAMILY_NAME}:
        stored = read_model(directory)
        parameters, model = stored.parameters, stored.model
    elif kind == "clip_vision_model":
        tower = "vision_model."  # which transformers writes no longer, since version 5
        parameters = _transformers_names(
            {
                name if name.startswith(tower) else tower + name: tensor
                for name, tensor in _tensors(directory).items()
            }
        )
    else:
        parameters = _open_clip_names(_tensors(directory))
    vision = {n: t for n, t in parameters.items() if n.startswith("visual.")}
    if not vision:
        raise InputError(
            f"{directory} holds no vision tower of CLIP: expected parameters named as "
            f"open_clip does (visual.conv1.weight, ...) or as transformers does "
            f"(vision_model.embeddings..., with its {CONFIGURATION})."
        )
    return Stored(vision, model)


def _configurations(directory: Path) -> dict[str, str]:
    return {
        name: (directory / name).read_text(encoding="utf-8")
        for name in (OPEN_CLIP_CONFIGURATION, CONFIGURATION)
        if (directory / name).is_file()
    }


def _tensors(directory: Path) -> dict[str, Tensor]:
    # Reads every tensor of a directory, which may be in several files.
    own = directory / OPEN_CLIP_PARAMETERS
    # Beside open_clip's file a hub often has the same model in transformers' format.
    files = [own] if own.is_file() else sorted(directory.glob("*.safetensors"))
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= load_file(file)
    if tensors:
        return tensors
    pickled = sorted(p.name for p in directory.iterdir() if p.suffix in PICKLED)
    if pickled:
        raise InputError(
            f"{directory / pickled[0]} is pickled, and to open it would run whatever "
            f"code it holds; task_vectors publishes whole models so. Where you trust "
            f"it, load it yourself and write its parameters: safetensors.torch."
            f"save_file(model.state_dict(), 'model.safetensors')."
        )
    raise InputError(f"There are no parameters (*.safetensors) in {directory}.")


def _open_clip_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name tensors as `CustomTextCLIP` does, whichever of open_clip's classes did."""
    found: dict[str, Tensor] = {}
    for given, tensor in tensors.items():
        name = given.removeprefix("model.")  # of a wrapper, as task_vectors has one
        if name == "attn_mask" or name.endswith(".attn_mask"):
            continue  # not a parameter, but stored by old versions
        if name.startswith(_TEXT_PARTS):
            name = f"text.{name}"
        found[name] = tensor
    return found


def _transformers_sections(configuration: Mapping[str, Any]) -> dict[str, Any]:
    vision = {**_VISION_DEFAULTS, **(configuration.get("vision_config") or {})}
    text = {**_TEXT_DEFAULTS, **(configuration.get("text_config") or {})}
    activations = {vision["hidden_act"], text["hidden_act"]}
    if len(activations) != 1 or activations - {"quick_gelu", "gelu"}:
        raise InputError(
            f"its activations are {', '.join(sorted(activations))}, but open_clip's "
            f"models have quick_gelu or gelu in both towers"
        )
    return {
        "embed_dim": configuration.get("projection_dim", _EMBEDDING_DEFAULT),
        "quick_gelu": "quick_gelu" in activations,
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
    }


def _transformers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Renames transformers' tensors, stacks its projections, and turns its matrices.
    found: dict[str, Tensor] = {}
    apart: dict[str, dict[str, Tensor]] = {}
    for given, tensor in tensors.items():
        if given.endswith("position_ids"):
            continue  # 0, 1, 2, ...: stored by old versions
        tower, _, name = given.partition(".")
        if given == "logit_scale":
            found[given] = tensor
        elif given == "visual_projection.weight":
            found["visual.proj"] = tensor.T.contiguous()
        elif given == "text_projection.weight":
            found["text.text_projection"] = tensor.T.contiguous()
        elif tower in {"vision_model", "text_model"}:
            prefix = "visual" if tower == "vision_model" else "text"
            names = _VISION_NAMES if tower == "vision_model" else _TEXT_NAMES
            layer = _LAYER.fullmatch(name)
            if layer is None:
                found[f"{prefix}.{names.get(name, name)}"] = tensor
                continue
            number, part, kind = layer.groups()
            block = f"{prefix}.transformer.resblocks.{number}"
            if part in _LAYER_PARTS:
                found[f"{block}.{_LAYER_PARTS[part]}.{kind}"] = tensor
            else:
                apart.setdefault(f"{block}.attn.in_proj_{kind}", {})[part] = tensor
        else:
            found[given] = tensor  # none of CLIP's, which is said where it is used
    for name, parts in apart.items():
        wanted = [f"self_attn.{letter}_proj" for letter in "qkv"]
        if sorted(parts) != sorted(wanted):
            raise InputError(
                f"Attention has {', '.join(sorted(parts))} where {', '.join(wanted)} "
                f"are expected ({name})."
            )
        found[name] = torch.cat([parts[part] for part in wanted])
    return found
