"""Attention in plain operations, which have per-example gradients and known FLOPs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class PlainAttention(TorchFunctionMode):
    """Within this context, attention is computed without fused kernels.

    Only the current thread is affected, unlike by `torch.nn.attention.sdpa_kernel`,
    which would change the kernels, and so the last digits, of models that other threads
    evaluate in the meantime.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Replace the two functions that lead to fused kernels; pass all others on."""
        named = dict(kwargs or {})
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **named)
        if func is functional.multi_head_attention_forward:
            # What is averaged into attention weights cannot stay inside a kernel.
            outputs, weights = func(*args, **(named | {"need_weights": True}))
            return outputs, weights if named.get("need_weights", True) else None
        return func(*args, **named)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *rest: object,
    **named: object,
) -> Tensor:
    # PyTorch's reference takes a mask that is added, not one of booleans.
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        zeros = torch.zeros_like(attn_mask, dtype=query.dtype)
        attn_mask = zeros.masked_fill(~attn_mask, -torch.inf)
    outputs, _ = torch.ops.aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, *rest, **named
    )
    return outputs
