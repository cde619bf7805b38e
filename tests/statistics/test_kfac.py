"""Gram matrices of output gradients against a loop over autograd in float64."""

import copy
import logging

import pytest
import torch
from torch import nn
from torch.nn import functional

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.statistics.gram import gram_matrices
from mergegrid.statistics.kfac import output_gradient_flops, output_gradient_grams
from mergegrid.statistics.measuring import choose_examples
from mergegrid.suites.examples import TensorExamples

VARIANTS = ("exact", "sampled", "empirical")


def gold(probabilities, label):
    return torch.eye(len(probabilities)).double()[label]


def expectation(probabilities, _label):
    return probabilities


def probed(model, name):
    """A model that adds zeros to a layer's outputs, and those zeros, use by use."""
    model = copy.deepcopy(model).double().eval()
    weight = dict(model.named_parameters())[name]
    probes = []

    def linear(inputs, given, bias=None, forward=functional.linear):
        outputs = forward(inputs, given, bias)
        if given is weight:
            probes.append(torch.zeros_like(outputs, requires_grad=True))
            outputs = outputs + probes[-1]
        return outputs

    return model, probes, linear


def by_hand(model, examples, name, weights, monkeypatch, tokens_of=None):
    """Sum weights(probabilities, label) x outer products, token by token."""
    model, probes, linear = probed(model, name)
    total, count = 0, 0
    with monkeypatch.context() as patch:
        patch.setattr(functional, "linear", linear)  # which attention calls too
        for index in range(len(examples)):
            example = examples[index : index + 1]
            probes.clear()
            outputs = model(example)[0]
            chosen = weights(outputs.detach().exp(), int(example["label"][0]))
            for label, weight in enumerate(chosen):
                gradients = torch.autograd.grad(
                    outputs[label], probes, retain_graph=True
                )
                for gradient in gradients:
                    rows = gradient.reshape(-1, gradient.shape[-1])
                    rows = rows if tokens_of is None else rows[tokens_of(example)]
                    for row in rows:
                        total = total + weight * torch.outer(row, row)
                    count += len(rows) if label == 0 else 0
    return total / count


def assert_alike(found, expected, rtol=1e-4):
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=rtol, atol=1e-6 * scale
    )


@pytest.mark.parametrize(
    ("variant", "weights"), [("exact", expectation), ("empirical", gold)]
)
def test_every_layer_has_the_mean_outer_product_of_its_output_gradients(
    reader, texts, variant, weights, monkeypatch
):
    found = output_gradient_grams(reader, texts, variant=variant)
    assert found.keys() == gram_matrices(reader, texts).keys()
    for name, matrix in found.items():
        d_out, _ = linear_weights(reader)[name]
        assert matrix.shape == (d_out, d_out)
        assert matrix.dtype == torch.float32
        expected = by_hand(reader, texts, name, weights, monkeypatch)
        assert float(expected.abs().max()) > 0
        assert_alike(matrix, expected)


def test_a_model_in_float64_is_measured_in_float64(reader, texts, monkeypatch):
    found = output_gradient_grams(reader.double(), texts, variant="exact")
    expected = by_hand(reader, texts, "twice.weight", expectation, monkeypatch)
    assert_alike(found["twice.weight"], expected, rtol=1e-6)


def test_layers_that_saw_nothing_are_left_out_and_named(reader, texts, caplog):
    with caplog.at_level(logging.INFO, logger="mergegrid"):
        found = output_gradient_grams(reader, texts)
    assert linear_weights(reader).keys() - found.keys() == {"unused.weight"}
    assert "unused.weight" in caplog.text


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_result_does_not_depend_on_batches(reader, texts, variant):
    once = output_gradient_grams(reader, texts, variant=variant)
    for batch_size in (1, 4):
        split = output_gradient_grams(
            reader, texts, variant=variant, batch_size=batch_size
        )
        for name, matrix in once.items():
            assert_alike(split[name], matrix)


class Softmax(nn.Module):
    """One layer, one token per example."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, batch):
        return self.linear(batch["x"].to(self.linear.weight)).log_softmax(dim=-1)


def test_one_softmax_layer_has_the_covariance_of_its_labels():
    torch.manual_seed(0)
    model = Softmax()
    examples = TensorExamples({"x": torch.randn(5, 2), "label": torch.arange(5) % 3})
    p = model(examples[:]).detach().exp().double()
    covariance = torch.diag_embed(p) - p.unsqueeze(1) * p.unsqueeze(2)
    found = output_gradient_grams(model, examples, variant="exact")
    assert_alike(found["linear.weight"], covariance.mean(dim=0))
    found = output_gradient_grams(model, examples, variant="empirical")
    wrong = torch.eye(3)[examples[:]["label"]] - p
    assert_alike(found["linear.weight"], wrong.T @ wrong / 5)


def test_with_one_token_the_trace_is_the_fisher_information_of_the_bias():
    torch.manual_seed(0)
    model = Softmax()
    examples = TensorExamples({"x": torch.randn(9, 2), "label": torch.arange(9) % 3})
    for variant in VARIANTS:
        # The same labels are drawn for both.
        chosen = {"variant": variant, "limit": 6, "seed": 4}
        found = output_gradient_grams(model, examples, **chosen)["linear.weight"]
        fisher = diagonal_fisher(model, examples, **chosen)["linear.bias"]
        assert_alike(found.diagonal(), fisher)


def test_sampled_is_unbiased_for_exact():
    torch.manual_seed(0)
    model = Softmax()
    few = TensorExamples({"x": torch.randn(3, 2), "label": torch.zeros(3).long()})
    repetitions = 4000
    many = TensorExamples(few[torch.arange(3).repeat(repetitions)])
    found = output_gradient_grams(model, many, limit=None, batch_size=4000)
    exact = output_gradient_grams(model, few, variant="exact")["linear.weight"]
    # Products are at most 1 in magnitude.
    deviation = 1 / (3 * repetitions) ** 0.5
    assert ((found["linear.weight"] - exact).abs() <= 5 * deviation).all()
    # The gold label is another quantity, which the same tolerance tells apart.
    empirical = output_gradient_grams(model, few, variant="empirical")["linear.weight"]
    assert ((empirical - exact).abs() > 5 * deviation).any()


def test_each_draw_belongs_to_its_example_and_seed(reader, texts):
    first = output_gradient_grams(reader, texts, seed=1)
    same = output_gradient_grams(reader, texts, seed=1)
    other = output_gradient_grams(reader, texts, seed=2)
    assert torch.equal(first["head.weight"], same["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_examples_are_drawn_at_random_and_none_twice(reader, texts):
    some = output_gradient_grams(reader, texts, variant="empirical", limit=5, seed=3)
    chosen = texts[choose_examples(texts, limit=5, seed=3)]
    expected = output_gradient_grams(
        reader, TensorExamples(chosen), variant="empirical"
    )
    for name, matrix in some.items():
        assert_alike(matrix, expected[name])


class Padded(nn.Module):
    """Reads texts of different lengths, and would go on to learn from padding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.encoder = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def token_mask(self, name, batch):
        return None if name.startswith("head") else batch["tokens"] != 0

    def forward(self, batch):
        hidden = self.encoder(self.embedding(batch["tokens"])).tanh()
        return self.head(hidden.mean(dim=1)).log_softmax(dim=-1)


def test_padding_is_left_out(monkeypatch):
    torch.manual_seed(0)
    tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [2, 0, 0, 0]])
    examples = TensorExamples({"tokens": tokens, "label": torch.arange(3)})
    model = Padded()
    found = output_gradient_grams(model, examples, variant="exact", batch_size=2)

    def kept(example):
        return (example["tokens"] != 0).flatten()

    name = "encoder.weight"
    expected = by_hand(model, examples, name, expectation, monkeypatch, kept)
    assert_alike(found[name], expected)
    # Without the mask, padding would count.
    counted = by_hand(model, examples, name, expectation, monkeypatch)
    assert not torch.allclose(counted, expected, rtol=1e-2)
    expected = by_hand(model, examples, "head.weight", expectation, monkeypatch)
    assert_alike(found["head.weight"], expected)
    only_padding = TensorExamples({"tokens": 0 * tokens, "label": torch.arange(3)})
    assert output_gradient_grams(model, only_padding).keys() == {"head.weight"}


class Careless(nn.Module):
    """Overwrites what a layer gave, and applies layers for nothing."""

    def __init__(self):
        super().__init__()
        self.first, self.aside = nn.Linear(2, 4), nn.Linear(2, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, batch):
        with torch.no_grad():
            self.aside(batch["x"])
        self.first(batch["x"])
        return self.last(self.first(batch["x"]).relu_()).log_softmax(dim=-1)


def test_outputs_that_are_overwritten_or_lead_nowhere_are_measured_as_they_were():
    torch.manual_seed(0)
    model = Careless()
    examples = TensorExamples({"x": torch.randn(6, 2), "label": torch.zeros(6).long()})
    found = output_gradient_grams(model, examples, variant="exact")
    expected = torch.zeros(4, 4)
    for x in examples[:]["x"]:
        outputs = model.first(x).detach().requires_grad_()
        predicted = model.last(outputs.relu()).log_softmax(dim=-1)
        for log_probability in predicted:
            (row,) = torch.autograd.grad(log_probability, outputs, retain_graph=True)
            expected += log_probability.detach().exp() * torch.outer(row, row)
    assert_alike(found["first.weight"], expected / 12)  # of two uses each
    assert not found["aside.weight"].any()


@pytest.mark.parametrize("variant", ["exact", "empirical"])
def test_an_open_clip_model_is_measured_like_any_other(
    clip, pictures, variant, monkeypatch
):
    found = output_gradient_grams(clip, pictures, variant=variant, batch_size=4)
    assert found.keys() == gram_matrices(clip, pictures).keys()
    weights = expectation if variant == "exact" else gold
    block = "visual.transformer.resblocks.0."
    for name in ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight"):
        expected = by_hand(clip, pictures, block + name, weights, monkeypatch)
        assert_alike(found[block + name], expected, rtol=1e-3)


def test_the_model_is_left_as_it_was(reader, texts):
    reader.train()
    before = copy.deepcopy(reader.state_dict())
    found = output_gradient_grams(reader, texts)
    assert reader.training
    assert not any(matrix.requires_grad for matrix in found.values())
    assert all(parameter.grad is None for parameter in reader.parameters())
    for name, value in reader.state_dict().items():
        assert torch.equal(value, before[name])


def test_gradients_are_taken_even_where_they_are_switched_off(reader, texts):
    expected = output_gradient_grams(reader, texts)
    with torch.no_grad():
        found = output_gradient_grams(reader, texts)
    for name, matrix in found.items():
        assert torch.equal(matrix, expected[name])


def test_a_model_without_linear_layers_has_nothing_to_measure():
    model = Softmax().requires_grad_(requires_grad=False)
    examples = TensorExamples({"x": torch.randn(5, 2), "label": torch.zeros(5).long()})
    assert output_gradient_grams(model, examples) == {}


def test_what_cannot_be_measured_is_refused(reader, texts):
    with pytest.raises(InputError, match="no examples"):
        output_gradient_grams(reader, TensorExamples(texts[:0]))
    with pytest.raises(InputError, match="not 0"):
        output_gradient_grams(reader, texts, limit=0)
    nn.init.constant_(reader.head.bias, float("nan"))
    with pytest.raises(NonFiniteError, match=r"attention\.in_proj_weight"):
        output_gradient_grams(reader, texts)


def test_flops_are_those_of_a_forward_and_backward_passes_and_the_products():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model.forward = lambda batch: model[1](model[0](batch["x"])).mean(dim=1)
    examples = TensorExamples(
        {"x": torch.randn(6, 5, 4), "label": torch.zeros(6).long()}
    )
    forward, backward = 2 * 4 * 3 + 2 * 3 * 2, 2 * 3 * 2  # not down to the inputs
    products = 2 * 3**2 + 2 * 2**2
    exact, paper = output_gradient_flops(model, examples, limit=2)
    assert exact == 2 * 5 * (forward + backward + products)
    assert paper == 2 * 5 * 4 * (4**2 * 3 + 3**2 * 2)
    exact, _ = output_gradient_flops(model, examples, variant="exact", limit=2)
    assert exact == 2 * 5 * (forward + 2 * (backward + products))


def test_flops_are_known_without_running_the_model(clip, pictures):
    blank = TensorExamples(
        {name: tensor.to("meta") for name, tensor in pictures[:].items()}
    )
    for variant in VARIANTS:
        found = output_gradient_flops(clip, pictures, variant=variant)
        expected = output_gradient_flops(
            copy.deepcopy(clip).to("meta"), blank, variant=variant
        )
        assert found == expected
