"""Adapters as peft stores them: read as products and vectors, and written.

Only what can be merged is read. Whatever else an adapter changes in a model is refused
by name, since a merge that left it out would be wrong without saying so.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from peft import IA3Config, LoraConfig, PeftConfig
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergegrid.errors import InputError

CONFIGURATION = "adapter_config.json"
PARAMETERS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the name of a layer."""

KINDS: Mapping[str, tuple[str, type[PeftConfig]]] = {
    "LORA": ("lora", LoraConfig),
    "IA3": ("ia3", IA3Config),
}
"""The kinds that are read, by `peft_type`."""

WITHOUT_EFFECT = frozenset(
    {
        # what the parameters themselves tell, or the scaling is made of
        "alpha_pattern", "fan_in_fan_out", "feedforward_modules", "lora_alpha", "r",
        "rank_pattern", "use_rslora", "target_modules", "exclude_modules",
        "layers_pattern", "layers_to_transform",
        # of training, and of where it took place
        "auto_mapping", "base_model_name_or_path", "eva_config", "inference_mode",
        "init_ia3_weights", "init_lora_weights", "lora_dropout", "loftq_config",
        "corda_config", "lora_ga_config", "megatron_core", "peft_type", "peft_version",
        "qalora_group_size", "revision", "runtime_config", "task_type",
        "ensure_weight_tying",
    }
)  # fmt: skip
"""Keys of a configuration that leave the product what it is."""

INITIALIZATIONS = (True, False, None, "gaussian", "eva", "orthogonal")
"""How factors may have begun; the other ways change the base model's weights too."""


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter, read."""

    kind: str
    """`lora` or `ia3`."""

    layers: Mapping[str, Tensor]
    """By layer, as peft names it in the adapted model: of LoRA the product s B A
    [d_out, d_in], of IA3 the vector, [d_out, 1] or of feedforward layers [1, d_in]."""


def read_adapter(directory: Path) -> StoredAdapter:
    """Read an adapter.

    Args:
        directory: as `save_pretrained` of peft writes it.

    Returns:
        The adapter, float32.

    Raises:
        InputError: if there is none, it is pickled, or cannot be merged as products or
            vectors.
    """
    path = directory / CONFIGURATION
    if not path.is_file():
        raise InputError(
            f"There is no {CONFIGURATION} in {directory}: an expert of this family is "
            f"an adapter, as peft saves it."
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("peft_type") not in KINDS:
        raise InputError(
            f"{directory} is a {config.get('peft_type')} adapter, which cannot be "
            f"merged; {' and '.join(KINDS)} can."
        )
    kind, known = KINDS[config["peft_type"]]
    _refuse_more(directory, config, known)
    if not (directory / PARAMETERS).is_file():
        raise InputError(
            f"There is no {PARAMETERS} in {directory}; pickled adapters are not loaded."
        )
    stored = load_file(directory / PARAMETERS)
    tensors = {n.removeprefix(PREFIX): tensor for n, tensor in stored.items()}
    read = _products if kind == "lora" else _vectors
    return StoredAdapter(kind, read(directory, config, tensors))


def write_lora(
    directory: Path,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    *,
    transposed: bool,
) -> None:
    """Write products as an adapter, their scaling being 1.

    Args:
        directory: where to; an existing directory.
        factors: A [r, d_in] and B [d_out, r] of each layer, as peft names it.
        transposed: whether the base model holds its weights as [d_in, d_out].
    """
    ranks = {name: len(a) for name, (a, _) in factors.items()}
    most = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != most}
    # Where a layer's rank is not the others', nor is the alpha that makes s 1.
    LoraConfig(
        r=most,
        lora_alpha=most,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=[n for n in factors if ".base_layer." not in n],
        fan_in_fan_out=transposed,
        inference_mode=True,
    ).save_pretrained(str(directory))
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in factors.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.contiguous()
    save_file(tensors, directory / PARAMETERS, metadata={"format": "pt"})


def write_ia3(
    directory: Path, vectors: Mapping[str, Tensor], *, transposed: bool
) -> None:
    """Write vectors as an adapter.

    Args:
        directory: where to; an existing directory.
        vectors: of each layer, as peft names it; see `StoredAdapter`.
        transposed: see `write_lora`.
    """
    IA3Config(
        target_modules=list(vectors),
        feedforward_modules=[n for n, v in vectors.items() if len(v) == 1],
        fan_in_fan_out=transposed,
        inference_mode=True,
    ).save_pretrained(str(directory))
    tensors = {f"{PREFIX}{n}.ia3_l": v.contiguous() for n, v in vectors.items()}
    save_file(tensors, directory / PARAMETERS, metadata={"format": "pt"})


def _refuse_more(
    directory: Path, config: Mapping[str, Any], known: type[PeftConfig]
) -> None:
    defaults = known().to_dict()
    for key, value in sorted(config.items()):
        if key in WITHOUT_EFFECT or not value or value == defaults.get(key):
            continue
        raise InputError(
            f"{directory} cannot be merged: {key} is {value!r}, and what that adds to "
            f"the model is no product of two matrices. Merge the adapter into its base "
            f"model, and merge full models."
        )
    begun = config.get("init_lora_weights")
    if begun not in INITIALIZATIONS:
        raise InputError(
            f"{directory} cannot be merged: init_lora_weights is {begun!r}, which has "
            f"changed the base model's weights. Convert the adapter as peft describes."
        )


def _products(
    directory: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, "d_out d_in"]]:
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, _, end = name.rpartition(".lora_A.")
        if name.endswith(".lora_B.weight"):
            continue
        if end != "weight" or f"{layer}.lora_B.weight" not in tensors:
            raise InputError(f"{directory} cannot be merged: it has {name!r}.")
        a, b = tensor.float(), tensors[f"{layer}.lora_B.weight"].float()
        patterns: dict[str, Any] = config.get("alpha_pattern") or {}
        key = get_pattern_key(list(patterns), layer)
        alpha = patterns[key] if key in patterns else config["lora_alpha"]
        rank = len(a)
        scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        found[layer] = scaling * (b @ a)
    return found


def _vectors(
    directory: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    del config
    for name in tensors:
        if not name.endswith(".ia3_l"):
            raise InputError(f"{directory} cannot be merged: it has {name!r}.")
    return {n.removesuffix(".ia3_l"): t.float() for n, t in tensors.items()}


def truncated(
    product: Float[Tensor, "d_out d_in"], rank: int
) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
    """Factorize a matrix by its truncated singular value decomposition.

    Args:
        product: the matrix.
        rank: how many singular values are kept at most.

    Returns:
        A = sqrt(S) V^T and B = U sqrt(S), float32, of the largest singular values:
        among all products of that rank B A is nearest to the matrix in Frobenius norm.
        Computed in float64.

    Source:
        Eckart and Young, "The approximation of one matrix by another of lower rank",
        Psychometrika 1936.
    """
    left, values, right = torch.linalg.svd(product.double(), full_matrices=False)
    kept = min(rank, len(values))
    roots = values[:kept].sqrt()
    return (roots[:, None] * right[:kept]).float(), (left[:, :kept] * roots).float()
