"""Gram matrices against sums of outer products in float64."""

import logging

import pytest
import torch
from torch import nn

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.statistics.gram import count_tokens, gram_flops, gram_matrices
from mergegrid.suites.examples import TensorExamples


def by_hand(*inputs):
    rows = [row.double() for given in inputs for row in given.flatten(0, -2).detach()]
    return sum(torch.outer(row, row) for row in rows) / len(rows)


def assert_alike(found, expected, rtol=1e-5):
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=rtol, atol=1e-6 * scale
    )


def test_every_layer_has_the_mean_outer_product_of_its_inputs(reader, texts):
    found = gram_matrices(reader, texts)
    reader.eval()
    hidden = reader.embedding(texts[:]["tokens"])
    assert_alike(found["attention.in_proj_weight"], by_hand(hidden))
    given = hidden if reader.batch_first else hidden.transpose(0, 1)
    attended, _ = reader.attention(given, given, given)
    attended = attended if reader.batch_first else attended.transpose(0, 1)
    # What the output projection was given, from what it gave.
    weight, bias = reader.attention.out_proj.weight, reader.attention.out_proj.bias
    inputs = torch.linalg.solve(weight, (attended - bias).mT.flatten(0, 0)).mT
    assert_alike(found["attention.out_proj.weight"], by_hand(inputs), rtol=1e-3)
    first = reader.norm(hidden + attended)
    second = reader.twice(first).tanh()
    assert_alike(found["twice.weight"], by_hand(first, second))
    pooled = reader.frozen(reader.twice(second).tanh()).mean(dim=1)
    assert_alike(found["head.weight"], by_hand(pooled))
    assert all(matrix.dtype == torch.float32 for matrix in found.values())


def test_layers_that_saw_nothing_are_left_out_and_named(reader, texts, caplog):
    with caplog.at_level(logging.INFO, logger="mergegrid"):
        found = gram_matrices(reader, texts)
    assert linear_weights(reader).keys() - found.keys() == {"unused.weight"}
    assert "unused.weight" in caplog.text


def test_the_result_does_not_depend_on_batches(reader, texts):
    once = gram_matrices(reader, texts)
    for batch_size in (1, 4):
        split = gram_matrices(reader, texts, batch_size=batch_size)
        for name, matrix in once.items():
            assert_alike(split[name], matrix)


class Padded(nn.Module):
    """Reads texts of different lengths: token 0 is padding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1
        )
        self.head = nn.Linear(4, 3)

    def token_mask(self, name, batch):
        return None if name.startswith("head") else batch["tokens"] != 0

    def forward(self, batch):
        mask = batch["tokens"] == 0
        hidden = self.encoder(
            self.embedding(batch["tokens"]), src_key_padding_mask=mask
        )
        return self.head(hidden[:, 0]).log_softmax(dim=-1)


def padded_texts(*, extra):
    texts = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [2, 0, 0, 0]])
    tokens = nn.functional.pad(texts, (0, extra))
    return TensorExamples({"tokens": tokens, "label": torch.zeros(3).long()})


# PyTorch warns of its own prototype when a mask makes it take the nested path.
@pytest.mark.filterwarnings("ignore:.*nested tensors:UserWarning")
def test_padding_is_left_out_however_much_of_it_there_is():
    torch.manual_seed(0)
    model = Padded()
    found = gram_matrices(model, padded_texts(extra=0))
    more = gram_matrices(model, padded_texts(extra=3), batch_size=2)
    assert found.keys() == linear_weights(model).keys()
    for name, matrix in found.items():
        assert_alike(more[name], matrix)
    tokens = torch.tensor([1, 2, 3, 4, 5, 6, 2])
    expected = by_hand(model.embedding(tokens))
    assert_alike(found["encoder.layers.0.self_attn.in_proj_weight"], expected)
    # Without the mask, padding would count.
    counted = by_hand(model.embedding(padded_texts(extra=0)[:]["tokens"]))
    assert not torch.allclose(counted, expected)


def test_a_layer_that_sees_only_padding_is_left_out():
    examples = TensorExamples({"tokens": torch.zeros(2, 3).long()})
    model = Padded()
    model.encoder = nn.Linear(4, 4)
    model.forward = lambda batch: model.head(
        model.encoder(model.embedding(batch["tokens"])).mean(1)
    )
    assert gram_matrices(model, examples).keys() == {"head.weight"}


def test_every_linear_weight_of_an_open_clip_model_has_a_gram_matrix(clip, pictures):
    found = gram_matrices(clip, pictures)
    matrices = {
        name
        for name, parameter in clip.named_parameters()
        if parameter.requires_grad and parameter.ndim == 2
    }
    # Not layers: a table of positions, and a product in the other direction.
    assert matrices - found.keys() == {"visual.positional_embedding", "visual.proj"}
    for name, (_, d_in) in linear_weights(clip).items():
        assert found[name].shape == (d_in, d_in)
    inputs = {}
    block = clip.visual.transformer.resblocks[1]
    block.ln_1.register_forward_hook(lambda *given: inputs.update(seen=given[2]))
    clip(pictures[:])
    name = "visual.transformer.resblocks.1.attn.in_proj_weight"
    assert_alike(found[name], by_hand(inputs["seen"]), rtol=1e-4)


def test_the_model_is_left_as_it_was_and_nothing_requires_gradients(reader, texts):
    reader.train()
    found = gram_matrices(reader, texts)
    assert reader.training
    assert not any(matrix.requires_grad for matrix in found.values())
    assert all(parameter.grad is None for parameter in reader.parameters())


def test_what_cannot_be_measured_is_refused(reader, texts):
    with pytest.raises(InputError, match="no examples"):
        gram_matrices(reader, TensorExamples(texts[:0]))
    nn.init.constant_(reader.norm.bias, float("nan"))
    with pytest.raises(NonFiniteError, match=r"head\.weight|twice\.weight"):
        gram_matrices(reader, texts)


def test_flops_are_those_of_a_forward_pass_and_the_products():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model.forward = lambda batch: model[1](model[0](batch["x"]))
    examples = TensorExamples({"x": torch.randn(6, 5, 4)})
    assert count_tokens(model, examples) == {"0.weight": 5, "1.weight": 5}
    exact, paper = gram_flops(model, examples, limit=2)
    assert exact == 2 * 5 * (2 * 4 * 3 + 2 * 3 * 2 + 2 * 4**2 + 2 * 3**2)
    assert paper == 2 * 5 * (4**2 * 3 + 3**2 * 2)
