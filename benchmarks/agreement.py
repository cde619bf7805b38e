"""Say how far apart two merged models are.

    python -m benchmarks.agreement ONE OTHER PRETRAINED

A model is a safetensors file or a folder of them. Prints JSON; differences are relative
to what merging changed, since that is what the tools compute.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

APART = 1e-4
"""Of the largest change: entries that differ by more were merged otherwise; less is
rounding, of numbers some fifty times the changes."""


def compare(one: Path, other: Path, pretrained: Path) -> dict[str, float]:
    """Compare two merged models.

    Args:
        one: the first.
        other: the second, to which differences are relative.
        pretrained: what both were merged upon.

    Returns:
        The largest difference over the largest change; the L2 norm of the differences
        over that of the changes; how many of the entries are `APART`; the ratio of the
        L2 norms of the changes.
    """
    first, second, base = _Model(one), _Model(other), _Model(pretrained)
    largest = max(
        float((second[name] - base[name]).abs().max()) for name in second.names()
    )
    squares = torch.zeros(3, dtype=torch.float64)
    difference, apart, entries = 0.0, 0, 0
    for name in second.names():
        change = second[name].double() - base[name]
        other_change = first[name].double() - base[name]
        apartness = (first[name].double() - second[name]).abs()
        squares += torch.stack(
            [
                apartness.square().sum(),
                change.square().sum(),
                other_change.square().sum(),
            ]
        )
        difference = max(difference, float(apartness.max()))
        apart += int((apartness > APART * largest).sum())
        entries += change.numel()
    between, norm, other_norm = squares.sqrt().tolist()
    return {
        "largest": difference / largest,
        "l2": between / norm,
        "apart": apart,
        "entries": entries,
        "norms": other_norm / norm,
    }


class _Model:
    def __init__(self, path: Path) -> None:
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        opened = [safe_open(file, framework="pt") for file in files]
        self._file_of = {name: file for file in opened for name in file.keys()}  # noqa: SIM118

    def names(self) -> list[str]:
        return sorted(self._file_of)

    def __getitem__(self, name: str) -> Tensor:
        return self._file_of[name].get_tensor(name)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Compare two merged models.")
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("pretrained", type=Path)
    chosen = parser.parse_args()
    found = compare(chosen.one, chosen.other, chosen.pretrained)
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
