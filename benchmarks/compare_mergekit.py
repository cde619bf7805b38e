"""Merge by mergekit's files, with mergekit and with mergegrid, and compare the numbers.

    PYTHON -m benchmarks.compare_mergekit [FILE ...]

PYTHON is the interpreter of an environment with both (README.md). Without files, a set
of its own is merged, one for every method and way of writing parameters. A file's
models are `pretrained`, `expert0`, `expert1` and `expert2`: small random Llamas, made
for the purpose. Draws are made equal, so that random methods can be compared too.
Prints, for each file, the largest difference relative to the largest change.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

import mergegrid
from benchmarks.layout import layout
from mergegrid.errors import MergegridError
from mergegrid.mergekit_recipe import MergekitMerge, make_merge
from mergegrid.randomness import uniform

LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY, HEADS = 5, 32, 48, 64, 4

PRETRAINED, EXPERTS = "pretrained", ("expert0", "expert1", "expert2")

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
}

EVERY = """
parameters:
  weight:
    - {filter: mlp, value: [0.2, 0.9, 0.5]}
    - {filter: norm, value: 1}
    - value: 0.7
  density:
    - {filter: self_attn, value: [1, 0.4]}
    - value: 0.55
  gamma: 0.02
  epsilon: 0.1
  lambda: 0.8
  scale: [{filter: o_proj, value: 0}, {filter: down_proj, value: [1, 0.5]}, {value: 1}]
  t: [{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}, {value: 0.4}]
"""
"""Parameters of all methods."""

OF_EACH = f"""
models:
  - model: {PRETRAINED}
  - {{model: expert0, parameters: {{weight: 1.0, density: [1, 0.7, 0.1], gamma: 0.1}}}}
  - {{model: expert1, parameters: {{weight: [0, 0.3, 0.7, 1], density: 0.5}}}}
  - model: expert2
    parameters: {{density: 0.33, weight: [{{filter: mlp, value: 0.5}}, {{value: 0}}]}}
"""
"""Models with parameters of their own."""

SLICES = """
slices:
  - sources:
      - {model: pretrained, layer_range: [0, 1], parameters: {weight: 0.1}}
      - {model: expert0, layer_range: [0, 1], parameters: {weight: [0.5, 0.9]}}
    parameters: {t: [0.2, 0.6], density: 0.5}
  - sources:
      - {model: pretrained, layer_range: [1, 5]}
      - {model: expert0, layer_range: [1, 5], parameters: {weight: 0.4}}
    parameters: {t: [0.9, 0.1], density: [0.2, 0.6]}
"""
"""The same model in two slices."""

TASK_VECTORS = (
    "task_arithmetic", "ties", "dare_ties", "dare_linear", "della", "della_linear",
    "breadcrumbs", "breadcrumbs_ties",
)  # fmt: skip


def files() -> Iterator[tuple[str, str]]:
    """List the files that are merged if none are given.

    Yields:
        A name, and what is in the file.
    """
    every = "models: [{}]".format(", ".join(f"{{model: {name}}}" for name in EXPERTS))
    base = f"base_model: {PRETRAINED}\n"
    for name in ("linear", *TASK_VECTORS, "model_stock"):
        text = f"merge_method: {name}\n{base}"
        yield name, f"{text}{every}{EVERY}"
        for value in ("false", "true"):
            yield (
                f"{name}, normalize: {value}",
                f"{text}{every}{EVERY}  normalize: {value}",
            )
        if name != "model_stock":
            yield (
                f"{name}, each",
                f"{text}{OF_EACH}parameters: {{weight: 0.5, epsilon: 0.05}}",
            )
            yield (
                f"{name}, slices",
                f"{text}{SLICES}parameters: {{weight: 0.5, epsilon: 0.05}}",
            )
        # Less than one entry of the smallest tensors; and no room for all outliers.
        for density in {"ties": (0.02,), "breadcrumbs": (0.97,)}.get(name, ()):
            numbers = f"{{weight: 1, density: {density}, gamma: 0.1}}"
            yield (
                f"{name}, density: {density}",
                f"{text}{every}\nparameters: {numbers}",
            )
        if name.startswith(("dare", "della")):
            yield f"{name}, rescale: false", f"{text}{every}{EVERY}  rescale: false"
    pair = f"models: [{{model: {PRETRAINED}}}, {{model: expert0}}]"
    yield "slerp", f"merge_method: slerp\n{base}{pair}{EVERY}"
    yield "slerp, slices", f"merge_method: slerp\n{base}{SLICES}"
    yield (
        "passthrough",
        f"merge_method: passthrough\nmodels: [{{model: expert0}}]{EVERY}",
    )


def make_models(directory: Path) -> dict[str, dict[str, Tensor]]:
    """Write the models to merge.

    Args:
        directory: where to.

    Returns:
        Their parameters.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(shape: tuple[int, ...], spread: float) -> Tensor:
        return torch.randn(shape, generator=generator) * spread

    base = {
        name: noise(shape, 0.02) + (len(shape) == 1) for name, shape in layout(CONFIG)
    }
    models = {PRETRAINED: base} | {
        # Far from the others, so that SLERP does not take the chord for the arc.
        expert: {name: w + noise(tuple(w.shape), 0.01) for name, w in base.items()}
        for expert in EXPERTS
    }
    for name, parameters in models.items():
        (directory / name).mkdir()
        save_file(parameters, directory / name / "model.safetensors", {"format": "pt"})
        (directory / name / "config.json").write_text(json.dumps(CONFIG))
    return models


def merge_theirs(document: Mapping[str, Any]) -> dict[str, Tensor]:
    """Merge with mergekit, in the directory of the models.

    Args:
        document: a file of its.

    Returns:
        The merged model.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    config = MergeConfiguration.model_validate(document)
    options = MergeOptions(
        device="cpu", copy_tokenizer=False, write_model_card=False, quiet=True
    )
    with tempfile.TemporaryDirectory() as out, _equal_draws():
        run_merge(config, out, options)
        return load_file(Path(out) / "model.safetensors")


def merge_ours(
    merge: MergekitMerge, models: Mapping[str, dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Merge with mergegrid, every tensor as a model of its own.

    Args:
        merge: what to merge.
        models: the models' parameters.

    Returns:
        The merged model.
    """
    merged: dict[str, Tensor] = {}
    for tensor, recipe in merge.recipes(models[PRETRAINED]).items():
        experts = {
            name: {tensor: models[path][tensor]} for name, path in merge.experts.items()
        }
        pretrained = (
            None
            if merge.pretrained is None
            else {tensor: models[merge.pretrained][tensor]}
        )
        merged |= mergegrid.merge(experts, recipe, pretrained, seed=merge.seed)
    return merged


def main() -> None:
    """Run the command line."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    given = [(path, Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        models = make_models(Path(scratch))
        for name, text in given or files():
            document = yaml.safe_load(text)
            theirs = merge_theirs(document)
            try:
                ours = merge_ours(make_merge(document), models)
            except MergegridError as error:
                sys.stdout.write(f"{name}: {error}\n")
                continue
            base = models[PRETRAINED]
            largest = max(float((theirs[n] - base[n]).abs().max()) for n in base)
            apart = max(float((theirs[n] - ours[n]).abs().max()) for n in base)
            sys.stdout.write(f"{name}: {apart / largest:.1e}\n")


@contextlib.contextmanager
def _equal_draws() -> Generator[None]:
    # mergekit sparsifies the task vectors of one tensor in the order of the models.
    from mergekit.merge_methods import generalized_task_arithmetic as module

    merge_group = module.GeneralizedTaskArithmeticMerge.merge_group
    sparsify = module.sparsify
    tensor, waiting = "", iter(())

    def note_group(method: object, group: object, /, **parameters: object) -> Tensor:
        nonlocal tensor, waiting
        tensor = group.metadata.name
        waiting = iter([str(entry.id) for entry in group.non_base])
        return merge_group(method, group, **parameters)

    def draw(expert: str, kept: Tensor) -> Tensor:
        draws = uniform(0, expert, tensor, (kept.numel(),)).view(kept.shape)
        return (draws >= 1 - kept).to(kept.dtype)

    def note_expert(delta: Tensor, **options: object) -> Tensor:
        expert = next(waiting)
        with mock.patch.object(torch, "bernoulli", lambda kept: draw(expert, kept)):
            return sparsify(delta, **options)

    with (
        mock.patch.object(module, "sparsify", note_expert),
        mock.patch.object(
            module.GeneralizedTaskArithmeticMerge, "merge_group", note_group
        ),
    ):
        yield


if __name__ == "__main__":
    main()
