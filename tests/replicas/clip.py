"""A tiny random CLIP in the hub's format, and pictures with something in them."""

import io
import json

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

MODEL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 8,
        "width": 32,
        "head_width": 16,
        "layers": 2,
    },
    "text_cfg": {
        "context_length": 24,  # of 77, for speed
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}
"""The real classes, with CLIP's own tokenizer, a thousandth of the size."""


def save_model(directory, seed=0):
    """Write the model as open_clip's hub stores it; give its parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**MODEL)
    directory.mkdir(parents=True, exist_ok=True)
    parameters = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(parameters, directory / "open_clip_model.safetensors")
    configuration = {
        "model_cfg": MODEL,
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (directory / "open_clip_config.json").write_text(json.dumps(configuration))
    return parameters


def picture(label, generator, *, size=(40, 36)):
    """Draw noise around a colour that goes with a label; give a PNG's bytes."""
    colour = np.random.default_rng(label).integers(256, size=3)
    noise = generator.normal(scale=20, size=(*size, 3))
    pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()
