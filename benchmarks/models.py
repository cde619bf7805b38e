"""Make the models that the benchmarks merge: one pretrained, and its experts.

    python -m benchmarks.models DIR

writes DIR/pretrained, DIR/expert0, DIR/expert1 and so on: directories as Hugging Face
has them, of a small Llama with 42 million float32 parameters and random weights. An
expert is the pretrained model plus noise. The same arguments give the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.layout import CONFIG, PRETRAINED, layout

WEIGHT_SPREAD = 0.02
"""Standard deviation of pretrained weights."""

CHANGE_SPREAD = 1e-3
"""Standard deviation of what fine-tuning changed."""


def make_models(directory: Path, *, experts: int, seed: int) -> None:
    """Write the pretrained model and its experts.

    Args:
        directory: the folder to write them into.
        experts: how many there are.
        seed: decides every weight.
    """
    generator = torch.Generator().manual_seed(seed)
    pretrained = {
        name: torch.randn(shape, generator=generator).mul_(WEIGHT_SPREAD)
        + (len(shape) == 1)  # weights of norms are near one
        for name, shape in layout()
    }
    _write(directory / PRETRAINED, pretrained)
    for index in range(experts):
        generator = torch.Generator().manual_seed(seed + 1 + index)
        expert = {
            name: torch.randn(weight.shape, generator=generator)
            .mul_(CHANGE_SPREAD)
            .add_(weight)
            for name, weight in pretrained.items()
        }
        _write(directory / f"expert{index}", expert)


def _write(directory: Path, parameters: dict[str, Tensor]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    save_file(parameters, directory / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(CONFIG, indent=2)
    (directory / "config.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make the models to merge.")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    make_models(chosen.directory, experts=chosen.experts, seed=chosen.seed)
    entries = sum(torch.Size(shape).numel() for _, shape in layout())
    sys.stdout.write(f"{chosen.experts + 1} models of {entries:,} parameters\n")


if __name__ == "__main__":
    main()
