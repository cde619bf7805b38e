"""Depth: which layer of a model a parameter belongs to, and factors along the depth.

LiNeS scales the merged task vector of layer l of L by alpha + beta l / (L - 1): shallow
layers, which all tasks share, change less than deep ones. Parameters outside the layers
(embeddings, final norms, projections) have the factor alpha. Here alpha is the option
`scale` and beta `depth_scale`; LiNeS itself has a scale of 1 and `match_norm`, which
multiplies it (and not beta) by |sum of task vectors| / (M |merged task vector|).

Source:
    Wang et al., "LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances
    Model Merging", ICLR 2025, arXiv:2410.17146, eq. 3; alpha as in the authors' code.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")
"""A component of a parameter's name that is a number."""


def layer_positions(names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Find the layers of a model by its parameters' names.

    A layer is a number in a name, the first one: `visual.blocks.3.mlp.weight` is in
    layer 3 of the stack `visual.blocks`. A stack has at least two layers; an encoder
    and a decoder are stacks of their own.

    Args:
        names: all parameters.

    Returns:
        For each parameter in a layer, the layer's place in its stack from 0, and how
        many layers the stack has.
    """
    found: dict[str, tuple[str, int]] = {}
    numbers: dict[str, set[int]] = {}
    for name in names:
        match = NUMBER.search(name)
        if match:
            stack, number = name[: match.start(1)], int(match[1])
            found[name] = stack, number
            numbers.setdefault(stack, set()).add(number)
    places = {
        stack: {number: place for place, number in enumerate(sorted(of_stack))}
        for stack, of_stack in numbers.items()
        if len(of_stack) > 1
    }
    return {
        name: (places[stack][number], len(places[stack]))
        for name, (stack, number) in found.items()
        if stack in places
    }


def interpolate(values: Sequence[float], position: tuple[int, int]) -> float:
    """Read a value off a line through values that are spread over the depth.

    Args:
        values: at least one; the first is for the first layer, the last for the last.
        position: a layer's place, from 0, and the number of layers, at least two.

    Returns:
        The value at the layer.
    """
    place, layers = position
    at = place / (layers - 1) * (len(values) - 1)
    low = min(int(at), len(values) - 1)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def scale_at(
    name: str,
    positions: Mapping[str, tuple[int, int]],
    *,
    scale: float,
    depth_scale: float = 0.0,
    layer_scales: Sequence[float] | None = None,
    norm_factor: float = 1.0,
) -> float:
    """Give the factor on one parameter's merged task vector.

    Args:
        name: the parameter.
        positions: from `layer_positions`.
        scale: the factor outside the layers, and in the first layer.
        depth_scale: what is added to it in the last layer, and in proportion before.
        layer_scales: factors on the sum of both, interpolated over the layers.
        norm_factor: factor on the scale alone.

    Returns:
        The factor.
    """
    if name not in positions:
        return norm_factor * scale
    place, layers = positions[name]
    scaled = norm_factor * scale + depth_scale * place / (layers - 1)
    if layer_scales:
        scaled *= interpolate(layer_scales, positions[name])
    return scaled
