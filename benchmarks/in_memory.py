"""Merge models in memory with one tool, and print what the merge alone cost.

    python -m benchmarks.in_memory TOOL CASE MODELS OUT.safetensors

`benchmarks.merges` starts this once for each tool and case, with the Python that has
the tool. Reading the models and writing the result are not measured.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.cases import CASES, FUSION_BENCH, MERGEGRID, MERGEKIT, Case
from benchmarks.layout import PRETRAINED, expert_names, linear_layers
from benchmarks.measure import measure_call

Parameters = dict[str, Tensor]


def prepare_mergegrid(
    case: Case, directory: Path, names: list[str]
) -> Callable[[], Parameters]:
    """Make everything ready for mergegrid.

    Args:
        case: what to merge, and how.
        directory: where the models are.
        names: the experts.

    Returns:
        A call that merges.
    """
    import mergegrid
    from mergegrid.methods.needs import Need

    experts = {name: read(directory / name) for name in names}
    pretrained = read(directory / PRETRAINED) if case.needs_pretrained else None
    statistics = (
        {Need.GRAM: {name: dict(grams(name)) for name in names}}
        if case.method == "regmean"
        else None
    )
    recipe = {"method": case.method, "options": case.options}
    return lambda: dict(mergegrid.merge(experts, recipe, pretrained, statistics))


def prepare_mergekit(
    case: Case, directory: Path, names: list[str]
) -> Callable[[], Parameters]:
    """Make everything ready for mergekit.

    Args:
        case: what to merge, and how.
        directory: where the models are.
        names: the experts.

    Returns:
        A call that merges.
    """
    from mergekit.merge_methods import api

    merge_state_dicts: Any = api.merge_state_dicts
    base = PRETRAINED if case.needs_pretrained else None
    models = {
        name: read(directory / name) for name in [*([base] if base else []), *names]
    }
    return lambda: merge_state_dicts(
        models, case.rival_method, parameters=case.rival_options, base=base
    )


def prepare_fusion_bench(
    case: Case, directory: Path, names: list[str]
) -> Callable[[], Parameters]:
    """Make everything ready for FusionBench.

    Args:
        case: what to merge, and how.
        directory: where the models are.
        names: the experts.

    Returns:
        A call that merges.
    """
    if case.method == "regmean":
        return _prepare_fusion_bench_regmean(case, directory, names)
    import fusion_bench.method
    from fusion_bench import BaseModelPool
    from transformers import AutoModelForCausalLM

    algorithm = getattr(fusion_bench.method, case.rival_method)(**case.rival_options)
    models = {
        f"_{name}_"
        if name == PRETRAINED
        else name: AutoModelForCausalLM.from_pretrained(directory / name)
        for name in [PRETRAINED, *names]
    }
    for name in names:  # some algorithms write into the models: no file is mapped
        for parameter in models[name].parameters():
            parameter.data = parameter.data.clone()
    return lambda: algorithm.run(BaseModelPool(models)).state_dict()


def _prepare_fusion_bench_regmean(
    case: Case, directory: Path, names: list[str]
) -> Callable[[], Parameters]:
    from fusion_bench.method.regmean import regmean

    experts = [read(directory / name) for name in names]
    layers = [
        {name.removesuffix(".weight"): gram for name, gram in grams(expert)}
        for expert in names
    ]
    merge: Any = getattr(regmean, case.rival_method)
    return lambda: merge(
        {name: [expert[name] for expert in experts] for name in experts[0]},
        layers,
        **case.rival_options,
    )


def grams(expert: str) -> Iterable[tuple[str, Tensor]]:
    """Draw Gram matrices of linear layers' inputs, the same in every process.

    Args:
        expert: its name, which decides them.

    Yields:
        Name of the layer's weight, and a positive definite matrix.
    """
    seed = int(expert.removeprefix("expert"))
    generator = torch.Generator().manual_seed(seed)
    for name, d_in in linear_layers().items():
        inputs = torch.randn((256, d_in), generator=generator)
        gram = inputs.T @ inputs / len(inputs)
        gram.diagonal().add_(0.1)
        yield name, gram


def read(directory: Path) -> Parameters:
    """Read a model into memory of its own.

    Args:
        directory: the model.

    Returns:
        Its parameters.
    """
    mapped = load_file(directory / "model.safetensors")
    return {name: tensor.clone() for name, tensor in mapped.items()}


PREPARE = {
    MERGEGRID: prepare_mergegrid,
    MERGEKIT: prepare_mergekit,
    FUSION_BENCH: prepare_fusion_bench,
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Merge in memory, and say the cost.")
    parser.add_argument("tool", choices=PREPARE)
    parser.add_argument("case", choices=[case.name for case in CASES])
    parser.add_argument("models", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    case = next(case for case in CASES if case.name == chosen.case)
    torch.manual_seed(0)  # rivals draw from it
    with torch.no_grad():
        names = expert_names(chosen.models)
        merge = PREPARE[chosen.tool](case, chosen.models, names)
        merged, usage = measure_call(merge)
    owned = {name: tensor.contiguous() for name, tensor in merged.items()}
    save_file(owned, chosen.out)
    sys.stdout.write(f"{json.dumps(dataclasses.asdict(usage))}\n")


if __name__ == "__main__":
    main()
