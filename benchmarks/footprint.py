"""Compare the memory that merges of stored models take with what pre-flight says.

    python -m benchmarks.footprint DIRECTORY [METHOD ...] [--shape 2048 2048]

Makes small models with one large matrix in DIRECTORY, once for each shape, and merges
them by every method, each merge in a process of its own. What is measured is by how
much more than before the merge was resident at the most: the program itself, and what
it takes to start threads, is not counted.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.measure import machine, measure_call
from mergegrid.inputs import open_inputs
from mergegrid.merge_file import MergeFile, read_merge_file
from mergegrid.merging import merge_stored
from mergegrid.methods import METHODS
from mergegrid.methods.needs import Need
from mergegrid.preflight import preflight

PRETRAINED, LARGE, SMALL = "pretrained", "large.weight", "small.weight"

STATISTICS = (Need.FISHER, Need.GRAM, Need.GRADIENT)

ROWS = "  {:<18} {:>9} {:>9} {:>8} {:>12} {:>8}\n"


def make_models(directory: Path, shape: tuple[int, int], experts: int) -> None:
    """Make a pretrained model, experts, and every statistic.

    Args:
        directory: where to.
        shape: of the large matrix.
        experts: how many.
    """
    generator = torch.Generator().manual_seed(0)
    layout = {LARGE: shape, SMALL: (64, 64), "small.bias": (64,)}
    base = {n: torch.randn(s, generator=generator) for n, s in layout.items()}
    save_file(base, directory / f"{PRETRAINED}.safetensors")
    for number in range(experts):
        expert = {
            name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in base.items()
        }
        save_file(expert, directory / f"{number}.safetensors")
        for need in STATISTICS:
            found = dict(_statistic(need, layout, generator))
            save_file(found, directory / f"{need}-{number}.safetensors")
    signs = {name: tensor.sign() for name, tensor in base.items()}
    save_file(signs, directory / "signs.safetensors")


def _statistic(
    need: Need, layout: Mapping[str, tuple[int, ...]], generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    for name, shape in layout.items():
        if need is Need.FISHER:
            yield name, torch.rand(shape, generator=generator)
        elif len(shape) == 2:
            width = shape[1] if need is Need.GRAM else shape[0]
            inputs = torch.randn((width // 2, width), generator=generator)
            yield name, (inputs.T @ inputs / len(inputs)).add_(0.1 * torch.eye(width))


def read_recipe(
    directory: Path, method: str, options: Mapping[str, Any], experts: int
) -> MergeFile:
    """Write a recipe and read it.

    Args:
        directory: where the models are.
        method: the method.
        options: its options.
        experts: how many are merged.

    Returns:
        What it asks for.
    """
    names = [f"e{number}" for number in range(experts)]
    document: dict[str, Any] = {
        "method": method,
        "options": dict(options),
        "pretrained": f"{PRETRAINED}.safetensors",
        "experts": {n: f"{number}.safetensors" for number, n in enumerate(names)},
    }
    needs = METHODS[method].needs_of(METHODS[method].recipe(options).options)
    statistics: dict[str, Any] = {
        str(need): {n: f"{need}-{number}.safetensors" for number, n in enumerate(names)}
        for need in STATISTICS
        if need in needs
    }
    if Need.SIGNS in needs:
        statistics["signs"] = "signs.safetensors"
    path = directory / f"recipe-{method}.yaml"
    path.write_text(yaml.safe_dump(document | {"statistics": statistics}))
    return read_merge_file(path)


def measure_one(
    directory: Path, method: str, options: Mapping[str, Any], experts: int
) -> None:
    """Merge, and print what pre-flight says and what it took, as JSON.

    Args:
        directory: where the models are.
        method: the method.
        options: its options.
        experts: how many are merged.

    Raises:
        SystemExit: if there is something in the way.
    """
    inputs = open_inputs(read_recipe(directory, method, options, experts))
    found = preflight(inputs)
    if found.error is not None or found.costs is None:
        raise SystemExit(str(found.error))
    # Whatever the first use of a library takes is taken before.
    torch.linalg.eigh(torch.eye(300).double() @ torch.eye(300).double())
    out = directory / f"merged-{method}"
    start = time.perf_counter()
    _, usage = measure_call(lambda: merge_stored(inputs, out, force=True))
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{json.dumps([found.costs.memory, usage.peak_bytes, seconds])}\n")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Compare memory with pre-flight's.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    parser.add_argument("--shape", nargs=2, type=int, default=(2048, 2048))
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--options", type=json.loads, default={}, help="as JSON")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    shape = (chosen.shape[0], chosen.shape[1])
    models = chosen.directory / f"{shape[0]}x{shape[1]}x{chosen.experts}"
    if chosen.one:
        measure_one(models, chosen.methods[0], chosen.options, chosen.experts)
        return
    if not models.exists():
        models.mkdir(parents=True)
        make_models(models, shape, chosen.experts)
    largest = 4 * shape[0] * shape[1]
    sys.stdout.write(f"{chosen.experts} experts, {shape}; {machine()}\n")
    sys.stdout.write(
        ROWS.format("method", "said MB", "took MB", "ratio", "x largest", "s")
    )
    for method in chosen.methods or sorted(METHODS):
        fewest, most = METHODS[method].experts
        experts = min(chosen.experts, most or chosen.experts)
        if experts < fewest or experts != chosen.experts:
            continue
        command = [sys.executable, "-m", "benchmarks.footprint", chosen.directory]
        command += [method, "--one", "--options", json.dumps(chosen.options)]
        command += ["--shape", *map(str, shape), "--experts", str(experts)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        said, took, seconds = json.loads(done.stdout.splitlines()[-1])
        cells = f"{said / took:.2f}", f"{took / largest:.1f}", f"{seconds:.1f}"
        sys.stdout.write(
            ROWS.format(method, f"{said / 1e6:.0f}", f"{took / 1e6:.0f}", *cells)
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
