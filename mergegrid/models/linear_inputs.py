"""What goes into a model's linear layers while it runs.

PyTorch's attention holds its input projections as bare tensors and applies its output
projection without calling it, so hooks alone see nothing of it. Here the attention runs
with the identity in place of its output projection, whatever its options, and the
projection is then called as the layer that it is.
"""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Record: TypeAlias = Callable[[str, Tensor], None]
"""Takes the name of a weight [d_out, d_in] and inputs [..., d_in]."""

SEPARATE_PROJECTIONS = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The parameters of attention whose queries, keys and values differ in size."""


def linear_weights(model: nn.Module) -> dict[str, tuple[int, int]]:
    """List the weights whose inputs are recorded.

    Args:
        model: any module.

    Returns:
        Name to shape (d_out, d_in) of every weight that requires gradients and belongs
        to a linear layer or to a projection of attention, in order of names. Tied
        weights are listed once, as in `named_parameters`.
    """
    names = _trainable_names(model)
    found: dict[str, tuple[int, int]] = {}
    for module in model.modules():
        for weight in _weights_of(module).values():
            if id(weight) in names:
                found[names[id(weight)]] = (weight.shape[0], weight.shape[1])
    return dict(sorted(found.items()))


@contextmanager
def record_linear_inputs(model: nn.Module, record: Record) -> Generator[None]:
    """Tell `record` the inputs of linear layers whenever the model runs in this block.

    The model's outputs are the same as ever, up to rounding. A layer that is applied
    several times, or whose weight is tied to another's, is recorded each time. The
    fused input projection of attention is recorded where queries, keys and values are
    the same tensor; elsewhere its rows have different inputs, and no matrix of inputs
    is that weight's.

    Args:
        model: its linear layers must be called as modules.
        record: called with the name of a weight that requires gradients, as in
            `linear_weights`, and its inputs, laid out as the layer was given them.

    Yields:
        Nothing.
    """
    names = _trainable_names(model)

    def tell(weight: Tensor | None, inputs: Tensor) -> None:
        if weight is not None and id(weight) in names:
            record(names[id(weight)], inputs)

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                stack.enter_context(_linear_recorded(module, tell))
            elif isinstance(module, nn.MultiheadAttention):
                stack.enter_context(_attention_recorded(module, tell))
        yield


_Tell: TypeAlias = Callable[[Tensor | None, Tensor], None]


def _trainable_names(model: nn.Module) -> dict[int, str]:
    return {
        id(parameter): name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def _weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Give the weights that a module itself holds and applies linearly."""
    if isinstance(module, nn.Linear):
        held = ("weight",)
    elif isinstance(module, nn.MultiheadAttention):
        held = ("in_proj_weight", *SEPARATE_PROJECTIONS)
    else:
        held = ()
    weights = {name: getattr(module, name) for name in held}
    return {name: weight for name, weight in weights.items() if weight is not None}


@contextmanager
def _linear_recorded(module: nn.Linear, tell: _Tell) -> Generator[None]:
    weight = module.weight

    def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tell(weight, given[0] if given else named["input"])

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _attention_recorded(module: nn.MultiheadAttention, tell: _Tell) -> Generator[None]:
    forward: Callable[..., tuple[Tensor, Tensor | None]] = module.forward
    own = vars(module).get("forward")  # such as a recorder's around this one
    fused = module.in_proj_weight
    weights = _weights_of(module)

    def recorded(
        query: Tensor, key: Tensor, value: Tensor, *rest: object, **named: object
    ) -> tuple[Tensor, Tensor | None]:
        for name, inputs in zip(SEPARATE_PROJECTIONS, (query, key, value), strict=True):
            tell(weights.get(name), inputs)
        if query is key and key is value:
            tell(fused, query)
        projection = module.out_proj
        module.add_module("out_proj", _Identity(projection))
        try:
            attended, attention = forward(query, key, value, *rest, **named)
        finally:
            module.add_module("out_proj", projection)
        return projection(attended), attention

    module.forward = recorded
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


class _Identity(nn.Module):
    """What attention reads of a projection that changes nothing."""

    def __init__(self, projection: nn.Linear) -> None:
        super().__init__()
        weight = projection.weight.detach()
        self.weight = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
        has_bias = getattr(projection, "bias", None) is not None
        self.bias = torch.zeros_like(weight[0]) if has_bias else None

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs
