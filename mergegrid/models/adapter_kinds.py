"""Kinds of adapters: what they add to a model, and where."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from mergegrid.errors import InputError, UnknownNameError


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[str, ...] = Field(min_length=1)
    """Names of layers, or their ends: `q_proj` is every layer so called."""


class Lora(_Kind):
    """LoRA: a weight W becomes W + s B A, with a narrow A [r, d_in] and B [d_out, r].

    The scaling s is alpha / r, or with `rslora` alpha / sqrt(r). The factors are what
    is trained. What is merged is the product s B A: the same product has many factors,
    and the mean of factors is not a factor of the mean.

    Source:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
        arXiv:2106.09685; rsLoRA: Kalajdzievski, arXiv:2312.03732.
    """

    kind: Literal["lora"]

    r: int = Field(default=8, ge=1)
    """The rank."""

    alpha: float = Field(default=8.0, gt=0)
    """What the scaling is made of."""

    rank_pattern: dict[str, int] = Field(default_factory=dict)
    """Other ranks, by the end of a layer's name, as peft has them."""

    alpha_pattern: dict[str, float] = Field(default_factory=dict)
    """Other values of alpha, by the end of a layer's name."""

    rslora: bool = False
    """Whether alpha is divided by the root of the rank."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of a layer's inputs that A is not given in training."""


class Ia3(_Kind):
    """IA3: outputs of layers are multiplied by vectors, of `feedforward` ones inputs.

    The vectors are what is trained and what is merged; in the pretrained model they are
    ones.

    Source:
        Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
        In-Context Learning", NeurIPS 2022, arXiv:2205.05638.
    """

    kind: Literal["ia3"]

    feedforward: tuple[str, ...] = ()
    """Those of the targets whose inputs are multiplied."""


Kind: TypeAlias = Annotated[Lora | Ia3, Field(discriminator="kind")]


class AdapterArchitecture(BaseModel):
    """What models with adapters are made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    """The family of the model that is adapted."""

    base: dict[str, Any]
    """The architecture of that model, as its family takes it."""

    adapter: Kind
    """What experts add to it."""


def is_target(layer: str, targets: Sequence[str]) -> bool:
    """Tell whether a layer is one of some targets.

    Args:
        layer: its name.
        targets: names of layers, or their ends.

    Returns:
        Whether it is.
    """
    return any(layer == each or layer.endswith(f".{each}") for each in targets)


def find_targets(model: nn.Module, kind: Lora | Ia3) -> dict[str, nn.Module]:
    """Find the layers that an adapter is added to.

    Args:
        model: a model, in which what its family merges requires gradients.
        kind: the kind of adapter.

    Returns:
        The layers by name: linear ones, and for LoRA also PyTorch's attention, whose
        projections are adapted together.

    Raises:
        UnknownNameError: if a target is no such layer.
        InputError: if a layer's weight is also an embedding.
    """
    known: dict[str, nn.Module] = {}
    inside: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            inside.add(f"{name}.out_proj")  # which is not called, but read
            fused: Any = module.in_proj_weight  # None where sizes differ
            if isinstance(kind, Lora) and fused is not None:
                known[name] = module
        elif isinstance(module, nn.Linear) and name not in inside:
            known[name] = module
    known = {n: m for n, m in known.items() if _is_merged(m)}
    for target in kind.targets:
        if not any(is_target(name, [target]) for name in known):
            ends = sorted({name.rpartition(".")[2] for name in known})
            raise UnknownNameError(f"layer for {kind.kind} to adapt", target, ends)
    found = {n: m for n, m in known.items() if is_target(n, kind.targets)}
    embeddings = {
        id(m.weight): n for n, m in model.named_modules() if isinstance(m, nn.Embedding)
    }
    for name, module in found.items():
        shared = embeddings.get(id(getattr(module, "weight", None)))
        if shared is not None:
            raise InputError(
                f"{name!r} cannot be adapted: its weight is also that of {shared!r}."
            )
    return found


def weights_of(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Name the weights of layers.

    Args:
        layers: linear layers and attention, by name.

    Returns:
        For each weight's name the layer as peft names it.
    """
    found: dict[str, str] = {}
    for name, layer in layers.items():
        if isinstance(layer, nn.MultiheadAttention):
            found[f"{name}.in_proj_weight"] = name
            found[f"{name}.out_proj.weight"] = f"{name}.base_layer.out_proj"
        else:
            found[f"{name}.weight"] = name
    return found


def _is_merged(layer: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in layer.parameters())
