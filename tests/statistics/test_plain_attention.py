"""Plain attention is the same function, without fused kernels."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from mergegrid.statistics.plain_attention import PlainAttention

MASK = torch.ones(5, 5, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": MASK},
        {"attn_mask": torch.randn(5, 5).double()},
        {"is_causal": True, "scale": 0.3},
    ],
)
def test_scaled_dot_product_attention_is_the_same(options):
    query, key, value = torch.randn(3, 2, 4, 5, 6).double()
    expected = functional.scaled_dot_product_attention(query, key, value, **options)
    with PlainAttention():
        found = functional.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("options", [{}, {"attn_mask": ~MASK, "is_causal": True}])
def test_multi_head_attention_is_the_same(need_weights, options):
    module = nn.MultiheadAttention(6, 2, batch_first=True).double()
    inputs = torch.randn(3, 5, 6).double()
    options |= {"need_weights": need_weights}
    outputs, weights = module(inputs, inputs, inputs, **options)
    with PlainAttention():
        same_outputs, same_weights = module(inputs, inputs, inputs, **options)
    torch.testing.assert_close(same_outputs, outputs)
    torch.testing.assert_close(same_weights, weights)


def test_per_example_gradients_have_a_form_for_every_operation():
    # PyTorch warns, which is an error here, where it would loop over the examples.
    module = nn.MultiheadAttention(6, 2, batch_first=True)
    parameters = dict(module.named_parameters())

    def loss(given, one):
        inputs = one[None]
        call = {"need_weights": False}
        outputs = torch.func.functional_call(module, given, (inputs,) * 3, call)
        return outputs[0].square().sum()

    with PlainAttention():
        gradients = torch.vmap(torch.func.grad(loss), (None, 0))(
            parameters, torch.randn(3, 5, 6)
        )
    assert gradients["in_proj_weight"].shape == (3, 18, 6)


def test_no_fused_kernel_runs():
    inputs = torch.randn(1, 2, 4, 8)
    with profile(activities=[ProfilerActivity.CPU]) as seen, PlainAttention():
        functional.scaled_dot_product_attention(inputs, inputs, inputs)
    names = {event.key for event in seen.key_averages()}
    assert any("attention_math" in name for name in names)
    assert not any("flash" in name or "efficient" in name for name in names)
