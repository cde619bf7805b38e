"""Layers as mergekit counts them: stretches of a model that are merged alike."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mergegrid.errors import InputError
from mergegrid.mergekit_parameters import Parameters

LAYER = re.compile(r"\.(\d+)\.")
"""The number of a layer in a tensor's name: the first number there is."""

EMBEDDING = re.compile(r"(?:^|[._])(?:embed|embd|wte|wpe)(?!_out)")
"""Part of the names of tensors before the layers; all others outside are after them."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive layers that are merged from the same models."""

    place: str
    """Where it is in the file: `slices[0]`, or `models`."""

    start: int
    """Number of its first layer."""

    stop: int | None
    """Number of the layer after its last; None for all that there are."""

    models: Mapping[str, Parameters]
    """The models' paths, in order, and the parameters of each."""

    parameters: Parameters
    """Those for this stretch."""


def count_layers(tensors: Iterable[str]) -> dict[str, int]:
    """Find the stacks of layers of a model.

    Args:
        tensors: names of all its tensors.

    Returns:
        What stands before the number in the names of each stack's tensors, such as
        `model.layers`, to its number of layers.
    """
    layers: dict[str, int] = {}
    for name in tensors:
        match = LAYER.search(name)
        if match:
            stack = name[: match.start()]
            layers[stack] = max(layers.get(stack, 0), int(match[1]) + 1)
    return layers


def check_slices(stretches: Sequence[Stretch], layers: Mapping[str, int]) -> None:
    """Check that slices hold all layers of a model.

    Args:
        stretches: the slices, without gaps from layer 0.
        layers: from `count_layers`.

    Raises:
        InputError: if they do not, or the model has several stacks.
    """
    if len(layers) != 1:
        stacks = ", ".join(sorted(layers)) or "none"
        raise InputError(
            f"slices: the model should have one stack of layers, not {len(layers)} "
            f"({stacks}); write models: instead."
        )
    ((stack, count),) = layers.items()
    last = stretches[-1]
    if last.stop != count:
        raise InputError(
            f"{last.place}.sources[0].layer_range: it ends at {last.stop}, but {stack} "
            f"has {count} layers; slices must hold all of them."
        )


def locate(
    tensor: str, stretches: Sequence[Stretch], layers: Mapping[str, int]
) -> tuple[Stretch, float]:
    """Find the stretch of layers that a tensor belongs to.

    Tensors outside the layers belong to the first or to the last one.

    Args:
        tensor: the tensor's name.
        stretches: all there are; they hold all layers.
        layers: from `count_layers`.

    Returns:
        The stretch, and how far down it the layer is: 0 for its first layer and 1 for
        its last, 1 if there is one layer, and 0 outside the layers.
    """
    match = LAYER.search(tensor)
    if not match:
        is_before = EMBEDDING.search(tensor) is not None
        return stretches[0 if is_before else -1], 0.0
    number, count = int(match[1]), layers[tensor[: match.start()]]
    stretch = next(s for s in stretches if s.stop is None or number < s.stop)
    last = (count if stretch.stop is None else stretch.stop) - stretch.start - 1
    return stretch, (number - stretch.start) / last if last else 1.0
