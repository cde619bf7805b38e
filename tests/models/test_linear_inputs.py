"""What is recorded is what went in, and nobody notices the recording."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from mergegrid.models.linear_inputs import linear_weights, record_linear_inputs

WIDTH, HEADS, TOKENS, EXAMPLES = 8, 2, 5, 3


def recorded(model, *inputs, **options):
    found = {}
    with record_linear_inputs(model, lambda n, x: found.setdefault(n, []).append(x)):
        outputs = model(*inputs, **options)
    return found, outputs


def attention(**options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, **options).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)  # biases are zero by default
    return module


CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
PADDING = torch.arange(TOKENS)[None] >= torch.tensor([5, 3, 4])[:, None]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {}),
        ({"bias": False}, {"need_weights": False}),
        ({"add_bias_kv": True, "add_zero_attn": True}, {"average_attn_weights": False}),
        ({}, {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}),
        ({}, {"key_padding_mask": PADDING}),
    ],
    ids=["plain", "no bias", "extra keys", "causal", "padding"],
)
def test_attention_gives_the_same_outputs_recorded_or_not(
    training, batch_first, options, call
):
    module = attention(batch_first=batch_first, **options).train(training)
    inputs = torch.randn(EXAMPLES, TOKENS, WIDTH, dtype=torch.float64)
    inputs = inputs if batch_first else inputs.transpose(0, 1)
    with torch.no_grad():  # where PyTorch takes its fused path, if it can
        outputs, weights = module(inputs, inputs, inputs, **call)
        found, (same_outputs, same_weights) = recorded(
            module, inputs, inputs, inputs, **call
        )
    torch.testing.assert_close(same_outputs, outputs)
    torch.testing.assert_close(same_weights, weights)
    assert found.keys() == linear_weights(module).keys()
    assert found["in_proj_weight"][0] is inputs
    # The output projection of what was recorded for it is the output.
    (attended,) = found["out_proj.weight"]
    projected = functional.linear(
        attended, module.out_proj.weight, module.out_proj.bias
    )
    torch.testing.assert_close(projected, outputs)


def test_cross_attention_has_no_inputs_of_the_fused_projection():
    module = attention()
    query, key = torch.randn(2, TOKENS, EXAMPLES, WIDTH, dtype=torch.float64)
    found, _ = recorded(module, query, key=key, value=key)
    assert found.keys() == {"out_proj.weight"}


def test_separate_projections_get_their_own_inputs():
    module = attention(kdim=3, vdim=4)
    given = [torch.randn(TOKENS, EXAMPLES, d).double() for d in (WIDTH, 3, 4)]
    found, _ = recorded(module, *given)
    for name, inputs in zip("qkv", given, strict=True):
        assert found[f"{name}_proj_weight"][0] is inputs
    assert linear_weights(module) == {
        "k_proj_weight": (WIDTH, 3),
        "out_proj.weight": (WIDTH, WIDTH),
        "q_proj_weight": (WIDTH, WIDTH),
        "v_proj_weight": (WIDTH, 4),
    }


class Reusing(nn.Module):
    """One layer applied twice, one tied to it, one frozen, one called by keyword."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.twice.weight
        self.frozen = nn.Linear(4, 4).requires_grad_(requires_grad=False)
        self.last = nn.Linear(4, 2, bias=False)

    def forward(self, inputs):
        hidden = self.twice(self.twice(inputs).relu()).relu()
        return self.last(input=self.frozen(self.tied(hidden)))


def test_every_use_of_a_weight_is_recorded_under_its_one_name():
    model = Reusing()
    inputs = torch.randn(3, 4)
    found, _ = recorded(model, inputs)
    assert (
        found.keys() == linear_weights(model).keys() == {"twice.weight", "last.weight"}
    )
    first, second, third = found["twice.weight"]
    assert first is inputs
    torch.testing.assert_close(second, model.twice(inputs).relu())
    torch.testing.assert_close(third, model.twice(second).relu())


def test_an_encoder_layer_is_recorded_although_pytorch_would_fuse_it():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True).eval()
    inputs = torch.randn(EXAMPLES, TOKENS, WIDTH)
    with torch.no_grad():
        found, outputs = recorded(layer, inputs)
        torch.testing.assert_close(outputs, layer(inputs))
    assert found.keys() == linear_weights(layer).keys()
    assert len(found) == 4


def test_recording_leaves_nothing_behind_even_if_the_model_fails():
    module = attention()
    before = copy.deepcopy(vars(module)).keys(), dict(module.named_modules())
    inputs = torch.randn(TOKENS, EXAMPLES, WIDTH)  # float32: fails inside
    with pytest.raises(RuntimeError):
        recorded(module, inputs, inputs, inputs)
    assert (vars(module).keys(), dict(module.named_modules())) == before
    assert not module.out_proj._forward_pre_hooks


def test_two_recorders_at_once_record_the_same():
    module = attention()
    inputs = torch.randn(TOKENS, EXAMPLES, WIDTH).double()
    outer = {}
    with record_linear_inputs(module, outer.__setitem__):
        found, _ = recorded(module, inputs, inputs, inputs)
    assert outer.keys() == found.keys() == linear_weights(module).keys()
    torch.testing.assert_close(outer["out_proj.weight"], found["out_proj.weight"][0])
    assert "forward" not in vars(module)
