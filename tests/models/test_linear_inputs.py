"""What is recorded is what went in or came out, and nobody notices the recording."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from mergegrid.models.linear_inputs import (
    linear_weights,
    record_linear_inputs,
    record_linear_outputs,
)

WIDTH, HEADS, TOKENS, EXAMPLES = 8, 2, 5, 3


def recorded(model, *inputs, recorder=record_linear_inputs, **options):
    found = {}
    with recorder(model, lambda n, x: found.setdefault(n, []).append(x)):
        outputs = model(*inputs, **options)
    return found, outputs


def recorded_outputs(model, *inputs, **options):
    return recorded(model, *inputs, recorder=record_linear_outputs, **options)


def attention(**options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, **options).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)  # biases are zero by default
    return module


CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
PADDING = torch.arange(TOKENS)[None] >= torch.tensor([5, 3, 4])[:, None]


every_attention = pytest.mark.parametrize(
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


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@every_attention
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


@pytest.mark.parametrize("recorder", [record_linear_inputs, record_linear_outputs])
@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 4}])
def test_recording_leaves_nothing_behind_even_if_the_model_fails(recorder, options):
    module = attention(**options)
    parameters = dict(module.named_parameters())
    before = copy.deepcopy(vars(module)).keys(), dict(module.named_modules())
    query = torch.randn(TOKENS, EXAMPLES, WIDTH).double()
    failing = torch.ones(1, 1)  # a mask of a shape that is refused inside
    key, value = (query[..., :3], query[..., :4]) if options else (query, query)
    with pytest.raises((RuntimeError, AssertionError)):
        recorded(module, query, key, value, attn_mask=failing, recorder=recorder)
    assert (vars(module).keys(), dict(module.named_modules())) == before
    assert list(module.state_dict()) == list(parameters)
    for name, parameter in module.named_parameters():
        assert parameter is parameters[name]
    assert not module.out_proj._forward_pre_hooks
    assert not module.out_proj._forward_hooks


def test_two_recorders_at_once_record_the_same():
    module = attention()
    inputs = torch.randn(TOKENS, EXAMPLES, WIDTH).double()
    outer = {}
    with record_linear_inputs(module, outer.__setitem__):
        found, _ = recorded(module, inputs, inputs, inputs)
    assert outer.keys() == found.keys() == linear_weights(module).keys()
    torch.testing.assert_close(outer["out_proj.weight"], found["out_proj.weight"][0])
    assert "forward" not in vars(module)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@every_attention
def test_outputs_of_attention_are_those_of_its_projections(
    training, batch_first, options, call
):
    module = attention(batch_first=batch_first, **options).train(training)
    inputs = torch.randn(EXAMPLES, TOKENS, WIDTH, dtype=torch.float64)
    inputs = inputs if batch_first else inputs.transpose(0, 1)
    with torch.no_grad():
        outputs, weights = module(inputs, inputs, inputs, **call)
        found, (same_outputs, same_weights) = recorded_outputs(
            module, inputs, inputs, inputs, **call
        )
    torch.testing.assert_close(same_outputs, outputs)
    torch.testing.assert_close(same_weights, weights)
    assert found.keys() == linear_weights(module).keys()
    projected = functional.linear(inputs, module.in_proj_weight, module.in_proj_bias)
    torch.testing.assert_close(found["in_proj_weight"], [projected])
    assert found["out_proj.weight"][0] is same_outputs
    torch.testing.assert_close(found["out_proj.weight"], [outputs])


@pytest.mark.parametrize("bias", [False, True])
def test_separate_projections_have_their_own_outputs(bias):
    module = attention(kdim=3, vdim=4, bias=bias)
    given = [torch.randn(TOKENS, EXAMPLES, d).double() for d in (WIDTH, 3, 4)]
    expected, _ = module(*given)
    found, (outputs, _) = recorded_outputs(module, *given)
    torch.testing.assert_close(outputs, expected)
    biases = module.in_proj_bias.chunk(3) if bias else (None, None, None)
    for name, inputs, part in zip("qkv", given, biases, strict=True):
        weight = getattr(module, f"{name}_proj_weight")
        projected = functional.linear(inputs, weight, part)
        torch.testing.assert_close(found[f"{name}_proj_weight"], [projected])


def test_cross_attention_has_no_outputs_of_the_fused_projection():
    module = attention()
    query, key = torch.randn(2, TOKENS, EXAMPLES, WIDTH, dtype=torch.float64)
    expected, _ = module(query, key, key)
    found, (outputs, _) = recorded_outputs(module, query, key=key, value=key)
    torch.testing.assert_close(outputs, expected)
    assert found.keys() == {"out_proj.weight"}


def test_every_use_of_a_weight_has_its_outputs_under_its_one_name():
    model = Reusing()
    inputs = torch.randn(3, 4)
    found, outputs = recorded_outputs(model, inputs)
    first = model.twice(inputs)
    second = model.twice(first.relu())
    third = model.tied(second.relu())
    torch.testing.assert_close(found["twice.weight"], [first, second, third])
    assert found.keys() == {"twice.weight", "last.weight"}
    assert found["last.weight"][0] is outputs


def test_gradients_flow_through_the_recorded_outputs_as_without_recording():
    module = attention()
    inputs = torch.randn(TOKENS, EXAMPLES, WIDTH).double()
    weights = list(module.parameters())
    expected = torch.autograd.grad(
        module(inputs, inputs, inputs)[0].sin().sum(), weights
    )
    found, (outputs, _) = recorded_outputs(module, inputs, inputs, inputs)
    gradients = torch.autograd.grad(
        outputs.sin().sum(), [*weights, *found["in_proj_weight"]]
    )
    torch.testing.assert_close(gradients[:-1], expected)
    # The weight's gradient is that of its outputs times its inputs.
    product = gradients[-1].flatten(0, 1).T @ inputs.flatten(0, 1)
    torch.testing.assert_close(product, gradients[0])


def test_an_encoder_layer_has_outputs_of_every_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True).eval()
    inputs = torch.randn(EXAMPLES, TOKENS, WIDTH)
    with torch.no_grad():
        found, outputs = recorded_outputs(layer, inputs)
        torch.testing.assert_close(outputs, layer(inputs))
    assert found.keys() == linear_weights(layer).keys()


def test_inputs_can_be_recorded_within_a_recording_of_outputs():
    module = attention()
    inputs = torch.randn(TOKENS, EXAMPLES, WIDTH).double()
    outer = {}
    with record_linear_outputs(module, outer.__setitem__):
        found, _ = recorded(module, inputs, inputs, inputs)
    assert outer.keys() == found.keys() == linear_weights(module).keys()
    for name, parameter in (
        ("in_proj_weight", (module.in_proj_weight, module.in_proj_bias)),
        ("out_proj.weight", (module.out_proj.weight, module.out_proj.bias)),
    ):
        expected = functional.linear(found[name][0], *parameter)
        torch.testing.assert_close(outer[name], expected)
    assert "forward" not in vars(module)
