"""The layers that adapters are added to, and what they are called where.

PyTorch's attention holds its projections fused and does not call them, so that nothing
can be added to one of them. While LoRA is trained, attention with projections that are
layers of their own takes its place.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.models.adapter_kinds import Ia3, Lora, is_target
from mergegrid.models.hub_models import inner_model

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
"""The layers whose weights are stacked in the fused one of PyTorch's attention."""

CLIP_BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.(attn|mlp)\.(\w+)")
CLIP_PARTS = {"attn": "self_attn", "mlp": "mlp", "c_fc": "fc1", "c_proj": "fc2"}
"""What open_clip and transformers call the layers of CLIP's vision tower."""


@dataclass(frozen=True)
class Layer:
    """A linear layer that is adapted."""

    name: str
    """Its name in the model, once the projections of attention are layers."""

    published: str
    """Its name in adapters that peft saves: transformers' own."""

    weight: str
    """The name of its weight in the model, fused with others or not."""

    rows: slice
    """Which rows of that weight are its own."""


def find_layers(model: nn.Module, kind: Lora | Ia3) -> list[Layer]:
    """Find the layers that an adapter is added to.

    Args:
        model: a model, in which what its family merges requires gradients.
        kind: the kind of adapter.

    Returns:
        The layers: linear ones, and for LoRA also the projections of PyTorch's
        attention, all of them together.

    Raises:
        UnknownNameError: if a target is no such layer.
        InputError: if a layer's weight is also an embedding.
    """
    known: dict[str, list[Layer]] = {}
    inside: set[str] = set()
    inner, _ = inner_model(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            inside.add(f"{name}.out_proj")
            if isinstance(kind, Lora) and module.in_proj_weight.requires_grad:
                known[name] = _projections(name, module)
        elif isinstance(module, nn.Linear) and name not in inside:
            published = published_name(name, inner)
            if module.weight.requires_grad:
                known[name] = [Layer(name, published, f"{name}.weight", slice(None))]
    for target in kind.targets:
        if not any(is_target(name, [target]) for name in known):
            ends = sorted({name.rpartition(".")[2] for name in known})
            raise UnknownNameError(f"layer for {kind.kind} to adapt", target, ends)
    found = [n for n in known if is_target(n, kind.targets)]
    _check_ties(model, found)
    return [layer for name in found for layer in known[name]]


def published_name(layer: str, inner: str) -> str:
    """Tell what an adapter calls a layer.

    Args:
        layer: its name in the model.
        inner: where the model of transformers is in the model.

    Returns:
        Its name in that; of CLIP's vision tower, that in transformers' model.
    """
    block = CLIP_BLOCK.fullmatch(layer)
    if block:
        number, part, end = block.groups()
        path = f"{CLIP_PARTS[part]}.{CLIP_PARTS.get(end, end)}"
        return f"vision_model.encoder.layers.{number}.{path}"
    return layer.removeprefix(f"{inner}.")


@contextmanager
def open_attention(model: nn.Module, layers: list[Layer]) -> Generator[None]:
    """Have attention with projections that are layers in a model in this block.

    Args:
        model: the model; its weights are shared, not copied.
        layers: only attention that is among them is replaced.

    Yields:
        Nothing.
    """
    names = {layer.name.rpartition(".")[0] for layer in layers}
    replaced = {
        name: module
        for name, module in model.named_modules()
        if name in names and isinstance(module, nn.MultiheadAttention)
    }
    for name, module in replaced.items():
        model.set_submodule(name, _OpenAttention(module))
    try:
        yield
    finally:
        for name, module in replaced.items():
            model.set_submodule(name, module)


class _OpenAttention(nn.Module):
    """Self-attention as `nn.MultiheadAttention` computes it, batches first."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        assert attention.batch_first, "open_clip's vision towers have batches first"
        self._heads = attention.num_heads
        weights = attention.in_proj_weight.detach().chunk(3)
        biases = attention.in_proj_bias.detach().chunk(3)
        for name, weight, bias in zip(PROJECTIONS, weights, biases, strict=True):
            self.add_module(name, _linear(weight, bias))
        projection = attention.out_proj
        self.out_proj = _linear(projection.weight.detach(), projection.bias.detach())

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, **_: object
    ) -> tuple[Float[Tensor, "example position feature"], None]:
        given = (query, key, value)
        heads = [
            self.get_submodule(name)(inputs).unflatten(-1, (self._heads, -1))
            for name, inputs in zip(PROJECTIONS, given, strict=True)
        ]
        q, k, v = (each.transpose(1, 2) for each in heads)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(attended.transpose(1, 2).flatten(-2)), None


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear


def _projections(name: str, attention: nn.MultiheadAttention) -> list[Layer]:
    size = attention.embed_dim
    fused, out = f"{name}.in_proj_weight", f"{name}.out_proj"
    found = [Layer(out, published_name(out, ""), f"{out}.weight", slice(None))]
    for number, part in enumerate(PROJECTIONS):
        rows = slice(number * size, (number + 1) * size)
        layer = f"{name}.{part}"
        found.append(Layer(layer, published_name(layer, ""), fused, rows))
    return found


def _check_ties(model: nn.Module, layers: list[str]) -> None:
    embeddings = {
        id(module.weight): name
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    }
    for name in layers:
        weight = getattr(model.get_submodule(name), "weight", torch.zeros(0))
        if id(weight) in embeddings:
            raise InputError(
                f"{name!r} cannot be adapted: its weight is also that of "
                f"{embeddings[id(weight)]!r}."
            )
