"""Companions: what a merged model needs beside its weights, from one of the models.

Configuration, tokenizer, generation settings and the like are copied. Never copied are
weights in any format, which the merge replaces, and code, which nobody has read.
"""

import json
from pathlib import Path

import torch

from mergegrid.checkpoints import REPORT, Checkpoint
from mergegrid.inputs import Inputs
from mergegrid.model_config import CONFIG, parse_config, with_type
from mergegrid.places import Place

CARD = "README.md"
"""The model card, which the merged model gets a new one of."""

NOT_COPIED = (
    # weights, and what lists them
    ".bin", ".ckpt", ".gguf", ".h5", ".index.json", ".msgpack", ".npz", ".onnx",
    ".onnx_data", ".ot", ".pt", ".pth", ".safetensors", ".tflite", ".pkl", ".pickle",
    # code
    ".py", ".pyc", ".sh", ".so",
    # of a training, not of a model
    "trainer_state.json", "all_results.json", "train_results.json",
    "eval_results.json", "optimizer.pt", ".log",
    # made anew
    REPORT, CARD,
)  # fmt: skip
"""Ends of the names of files that are not copied."""


def find_companions(inputs: Inputs) -> list[Place]:
    """Find the files that a merged model needs beside its weights.

    Args:
        inputs: everything that the merge reads.

    Returns:
        Visible files in the directory of the pretrained model, or else of the first
        expert that has one; none if all models are single files.
    """
    found = [inputs.reference(), *inputs.experts.values()]
    directories = [checkpoint for checkpoint in found if checkpoint.is_directory]
    with_config = [each for each in directories if inputs.configs[each.text]]
    chosen = next(iter([*with_config, *directories]), None)
    return _copied(chosen) if chosen else []


def write_companions(
    companions: list[Place], directory: Path, dtype: torch.dtype | None
) -> None:
    """Copy them.

    Args:
        companions: from `find_companions`.
        directory: where to.
        dtype: the type that weights were cast to, which the configuration then says;
            None if they were not.
    """
    for place in companions:
        copied = directory / place.name
        if place.name != CONFIG or dtype is None:
            copied.write_bytes(place.bytes())
            continue
        config = parse_config(place)
        changed = with_type(config, dtype)
        if changed == config:
            copied.write_bytes(place.bytes())
        else:
            text = json.dumps(changed, indent=2, ensure_ascii=False)
            copied.write_text(f"{text}\n", encoding="utf-8")


def _copied(checkpoint: Checkpoint) -> list[Place]:
    return [
        place
        for place in checkpoint.directory.listed()
        if not place.name.startswith(".") and not place.name.endswith(NOT_COPIED)
    ]
