"""What goes into a model's linear layers while it runs, and what comes out of them.

PyTorch's attention holds its input projections as bare tensors and applies its output
projection without calling it, so hooks alone see nothing of it. Here the attention runs
with the identity in place of its output projection, whatever its options, and the
projection is then called as the layer that it is. Where outputs are asked for, so it
goes with the input projections.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

Record: TypeAlias = Callable[[str, Tensor], None]
"""Takes the name of a weight [d_out, d_in] and inputs [..., d_in], or outputs [...,
d_out]."""

SEPARATE_PROJECTIONS = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The parameters of attention whose queries, keys and values differ in size."""


def linear_weights(model: nn.Module) -> dict[str, tuple[int, int]]:
    """List the weights whose inputs are recorded.

    Args:
        model: any module.

    Returns:
        Name to shape (d_out, d_in) of every weight that requires gradients and belongs
        to a linear layer or to a projection of attention, in order of names. Tied
        weights are listed once, as in `named_parameters`; those that are tied to
        embeddings are not, since what is looked up has no such inputs.
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
    with _recorded(model, record, _tell_inputs, _attend):
        yield


@contextmanager
def record_linear_outputs(model: nn.Module, record: Record) -> Generator[None]:
    """Tell `record` the outputs of linear layers whenever the model runs in this block.

    It is told of the same layers, under the same names, in the same order and as often
    as by `record_linear_inputs`, and handed the very tensors that the model goes on
    with, so that gradients with respect to them can be taken.

    To record inputs as well, enter this context first.

    Args:
        model: its linear layers must be called as modules.
        record: called with the name of a weight that requires gradients, as in
            `linear_weights`, and the layer's outputs, its bias included.

    Yields:
        Nothing.
    """
    with _recorded(model, record, _tell_outputs, _project):
        yield


_Tell: TypeAlias = Callable[[Tensor | None, Tensor], None]

_Three: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values."""

_TellLinear: TypeAlias = Callable[[nn.Linear, _Tell], RemovableHandle]
"""Hooks on to a linear layer."""

_TellProjections: TypeAlias = Callable[
    [nn.MultiheadAttention, _Three, _Tell], AbstractContextManager[_Three]
]
"""Tells of the input projections of attention, and what to give it meanwhile."""


@contextmanager
def _recorded(
    model: nn.Module,
    record: Record,
    tell_linear: _TellLinear,
    tell_projections: _TellProjections,
) -> Generator[None]:
    names = _trainable_names(model)

    def tell(weight: Tensor | None, tensor: Tensor) -> None:
        if weight is not None and id(weight) in names:
            record(names[id(weight)], tensor)

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                stack.callback(tell_linear(module, tell).remove)
            elif isinstance(module, nn.MultiheadAttention):
                stack.enter_context(_attention_recorded(module, tell, tell_projections))
        yield


def _trainable_names(model: nn.Module) -> dict[int, str]:
    looked_up = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
    }
    return {
        id(parameter): name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in looked_up
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


def _tell_inputs(module: nn.Linear, tell: _Tell) -> RemovableHandle:
    weight = module.weight

    def hook(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tell(weight, given[0] if given else named["input"])

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def _tell_outputs(module: nn.Linear, tell: _Tell) -> RemovableHandle:
    weight = module.weight

    def hook(_: nn.Module, _given: tuple[Any, ...], outputs: Tensor) -> None:
        tell(weight, outputs)

    return module.register_forward_hook(hook)


@contextmanager
def _attention_recorded(
    module: nn.MultiheadAttention, tell: _Tell, tell_projections: _TellProjections
) -> Generator[None]:
    forward: Callable[..., tuple[Tensor, Tensor | None]] = module.forward
    own = vars(module).get("forward")  # such as a recorder's around this one

    def recorded(
        query: Tensor, key: Tensor, value: Tensor, *rest: object, **named: object
    ) -> tuple[Tensor, Tensor | None]:
        projection = module.out_proj
        with tell_projections(module, (query, key, value), tell) as given:
            module.add_module("out_proj", _Identity(projection))
            try:
                attended, attention = forward(*given, *rest, **named)
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


@contextmanager
def _attend(
    module: nn.MultiheadAttention, given: _Three, tell: _Tell
) -> Generator[_Three]:
    """Tell the inputs of the input projections, and leave the rest to the module."""
    weights = _weights_of(module)
    for name, inputs in zip(SEPARATE_PROJECTIONS, given, strict=True):
        tell(weights.get(name), inputs)
    if _is_self_attention(given):
        tell(weights.get("in_proj_weight"), given[0])
    yield given


@contextmanager
def _project(
    module: nn.MultiheadAttention, given: _Three, tell: _Tell
) -> Generator[_Three]:
    """Apply the input projections, tell their outputs, and let the module apply none.

    A fused projection of cross-attention is left to the module, and not told of.
    """
    weights = _weights_of(module)
    fused = weights.get("in_proj_weight")
    bias: Tensor | None = getattr(module, "in_proj_bias", None)
    like = module.out_proj.weight
    identity = torch.eye(len(like), dtype=like.dtype, device=like.device)
    replaced: dict[str, Tensor] = {}
    if fused is None:
        biases = (None, None, None) if bias is None else bias.chunk(3)
        query, key, value = (
            functional.linear(inputs, weights[name], part)
            for name, inputs, part in zip(
                SEPARATE_PROJECTIONS, given, biases, strict=True
            )
        )
        for name, outputs in zip(
            SEPARATE_PROJECTIONS, (query, key, value), strict=True
        ):
            tell(weights[name], outputs)
            replaced[name] = identity
    elif _is_self_attention(given):
        outputs = functional.linear(given[0], fused, bias)
        tell(fused, outputs)
        query, key, value = outputs.chunk(3, dim=-1)
        replaced["in_proj_weight"] = identity.repeat(3, 1)
    else:
        yield given
        return
    if bias is not None:
        replaced["in_proj_bias"] = torch.zeros_like(bias)
    with _replaced(module, replaced):
        yield query, key, value


def _is_self_attention(given: _Three) -> bool:
    query, key, value = given
    return query is key and key is value


@contextmanager
def _replaced(module: nn.Module, tensors: Mapping[str, Tensor]) -> Generator[None]:
    """Put other values, that require no gradients, in the place of parameters."""
    parameters = {name: getattr(module, name) for name in tensors}
    for name, tensor in tensors.items():
        setattr(module, name, nn.Parameter(tensor.detach(), requires_grad=False))
    try:
        yield
    finally:
        for name, parameter in parameters.items():
            setattr(module, name, parameter)


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
