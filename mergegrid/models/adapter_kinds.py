"""Kinds of adapters: what they add to a model, and where."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


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
