"""Compare ways to differentiate a merge with respect to its coefficients.

    python -m benchmarks.learning DIRECTORY [--experts 8] [--updates 3]

Makes a random CLIP image tower of 22 million float32 parameters and experts of it in
DIRECTORY, once, and takes the same updates on their coefficients in each way, in a
process of its own: task vectors held or streamed (on a CPU, held and offloaded are the
same), and, for comparison, the usual way: the merge as a part of the graph, by
`torch.func.functional_call`.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.measure import machine, measure_call
from mergegrid.learning.directions import Streamed
from mergegrid.learning.held import Held
from mergegrid.learning.merged_model import MergedModel
from mergegrid.methods import get_method
from mergegrid.sources import InMemory
from mergegrid.suites.examples import Batch

WAYS = ("held", "streamed", "graph")

WIDTH, LAYERS, BATCH = 512, 7, 8

ROWS = "  {:<10} {:>12} {:>16}\n"


class Tower(nn.Module):
    """A transformer as image towers have it, with a small classifier."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, 8, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, batch: Batch) -> Tensor:
        """Give log-probabilities [example, label]."""
        return self.head(self.layers(batch["tokens"]).mean(dim=1)).log_softmax(-1)


def make_models(directory: Path, experts: int) -> None:
    """Write the pretrained model and its experts.

    Args:
        directory: where to.
        experts: how many.
    """
    torch.manual_seed(0)
    base = Tower().state_dict()
    save_file(base, directory / "pretrained.safetensors")
    for number in range(experts):
        expert = {n: t + 0.001 * torch.randn_like(t) for n, t in base.items()}
        save_file(expert, directory / f"{number}.safetensors")


def measure(directory: Path, way: str, experts: int, updates: int) -> None:
    """Take updates in one way, and print what they cost.

    Args:
        directory: the models.
        way: one of `WAYS`.
        experts: how many.
        updates: how many.
    """
    torch.set_num_threads(1)
    model = Tower().eval()
    before = load_file(directory / "pretrained.safetensors")
    tuned = {
        str(number): load_file(directory / f"{number}.safetensors")
        for number in range(experts)
    }
    model.load_state_dict(before)
    tokens = torch.randn(BATCH, 50, WIDTH, generator=torch.Generator().manual_seed(1))
    batch = {"tokens": tokens, "label": torch.arange(BATCH) % 10}

    def loss(logits: Tensor) -> Tensor:
        return -logits.gather(-1, batch["label"].unsqueeze(-1)).mean()

    update: Callable[[], object]
    if way == "graph":
        update = _in_graph(model, before, tuned, batch, loss)
    else:
        streamed = Streamed(
            {name: InMemory(tensors) for name, tensors in tuned.items()},
            InMemory(before),
            get_method("supermerge").recipe(),
            {},
            device=torch.device("cpu"),
        )
        directions = Held(streamed) if way == "held" else streamed
        merged = MergedModel(model, before, directions, {})
        coefficients = torch.full(
            (len(merged.names), experts), 0.3, dtype=torch.float64
        )

        def update() -> object:
            return merged.gradient(coefficients, lambda module: loss(module(batch)))

    def all_updates() -> None:
        for _ in range(updates):
            update()

    update()
    _, usage = measure_call(all_updates)
    sys.stdout.write(
        ROWS.format(
            way,
            f"{usage.cpu_seconds / updates:.2f}",
            f"{_resident() / 1e6:,.0f}",
        )
    )


def _in_graph(
    model: nn.Module,
    before: Mapping[str, Tensor],
    tuned: Mapping[str, Mapping[str, Tensor]],
    batch: Batch,
    loss: Callable[[Tensor], Tensor],
) -> Callable[[], object]:
    vectors = {
        name: torch.stack([expert[name] - tensor for expert in tuned.values()])
        for name, tensor in before.items()
    }
    rows = torch.full((len(vectors), len(tuned)), 0.3, requires_grad=True)

    def update() -> object:
        merged = {
            name: before[name] + torch.tensordot(row, stacked, 1)
            for row, (name, stacked) in zip(rows, vectors.items(), strict=True)
        }
        loss(functional_call(model, merged, (batch,))).backward()
        return rows.grad

    return update


def _resident() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Make the models, and measure each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    chosen = parser.parse_args()
    if chosen.way:
        measure(chosen.directory, chosen.way, chosen.experts, chosen.updates)
        return
    chosen.directory.mkdir(parents=True, exist_ok=True)
    if not (chosen.directory / f"{chosen.experts - 1}.safetensors").is_file():
        make_models(chosen.directory, chosen.experts)
    sys.stdout.write(f"{machine()}\n")
    sys.stdout.write(ROWS.format("", "CPU s/update", "process, MB"))
    sys.stdout.flush()
    for way in WAYS:
        counts = ["--experts", str(chosen.experts), "--updates", str(chosen.updates)]
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.learning", chosen.directory),
                *("--way", way, *counts),
            ],
            check=True,
        )


if __name__ == "__main__":
    main()
