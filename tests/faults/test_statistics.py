"""Faults of other tools in measuring statistics; each test is named after one.

They were seen in MergeLM, fusion_bench, dataless-model-merging, and the code of MaTS
and the Realistic Evaluation paper.
"""

from fractions import Fraction

import pytest
import torch
from torch import nn

from mergegrid.errors import InputError
from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.statistics.gram import gram_matrices
from mergegrid.statistics.kfac import output_gradient_grams
from mergegrid.statistics.norms import squared_norms
from mergegrid.suites.examples import TensorExamples


class Softmax(nn.Module):
    """One linear layer; starts with uniform predictions."""

    def __init__(self, d_in=2, labels=3):
        super().__init__()
        self.linear = nn.Linear(d_in, labels, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, batch):
        inputs = batch["x"].to(self.linear.weight.dtype)
        return self.linear(inputs).log_softmax(dim=-1)


def examples(x, label=None):
    x = torch.as_tensor(x)
    labels = torch.zeros(len(x), dtype=torch.int64) if label is None else label
    return TensorExamples({"x": x, "label": torch.as_tensor(labels)})


# Fisher information


def test_fisher_by_squared_batch_gradients():
    # Gradients of the two examples cancel; their squares do not.
    found = diagonal_fisher(
        Softmax(), examples([[1.0, 0.0], [-1.0, 0.0]]), variant="empirical"
    )["linear.weight"]
    score = torch.tensor([2 / 3, -1 / 3, -1 / 3])
    expected = torch.stack([score**2, torch.zeros(3)], dim=1)
    torch.testing.assert_close(found, expected)


def test_fisher_by_square_roots_of_probabilities():
    # That trick gives 0 where predictions are uniform, and Fisher information does not.
    found = diagonal_fisher(Softmax(), examples([[1.0, 2.0]]), variant="exact")
    expected = torch.tensor([1.0, 4.0]).expand(3, 2) * 2 / 9  # p (1 - p) x^2
    torch.testing.assert_close(found["linear.weight"], expected)


@pytest.mark.parametrize("variant", ["exact", "sampled"])
def test_fisher_by_gradients_of_soft_labels(variant):
    # The expectation of the score is 0, whatever the model.
    torch.manual_seed(0)
    model = Softmax()
    nn.init.normal_(model.linear.weight)
    x = torch.randn(2000, 2)
    found = diagonal_fisher(model, examples(x), variant=variant, limit=None)
    p = (x @ model.linear.weight.T).softmax(dim=-1).detach()
    expected = (p * (1 - p)).T @ x**2 / len(x)
    rtol = 1e-4 if variant == "exact" else 0.2
    torch.testing.assert_close(found["linear.weight"], expected, rtol=rtol, atol=1e-4)


def test_fisher_of_gold_labels_unless_asked():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    first = diagonal_fisher(Softmax(), examples(x))["linear.weight"]
    other = diagonal_fisher(Softmax(), examples(x, torch.ones(20, dtype=torch.int64)))
    assert torch.equal(other["linear.weight"], first)


@pytest.mark.parametrize("measure", [diagonal_fisher, output_gradient_grams])
def test_fisher_that_grows_with_the_number_of_examples(measure):
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    once = measure(Softmax(), examples(x), variant="exact")["linear.weight"]
    twice = measure(Softmax(), examples(torch.cat([x, x])), variant="exact")
    torch.testing.assert_close(twice["linear.weight"], once)


class Tied(nn.Module):
    """Uses one weight twice: logits are (w + 3 w) x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 2))

    def forward(self, batch):
        logits = batch["x"] @ self.weight.T + 3 * (batch["x"] @ self.weight.T)
        return logits.log_softmax(dim=-1)


def test_fisher_of_a_tied_parameter_squared_for_each_use():
    found = diagonal_fisher(Tied(), examples([[1.0, 2.0]]), variant="exact")["weight"]
    expected = 4**2 * torch.tensor([1.0, 4.0]).expand(3, 2) * 2 / 9
    torch.testing.assert_close(found, expected)


def test_squares_too_small_for_sixteen_bits_lost():
    model = Softmax().half()
    found = diagonal_fisher(model, examples([[1e-5, 2e-5]]), variant="exact")
    x = torch.tensor([1e-5, 2e-5]).half().float()
    expected = (x**2).expand(3, 2) * 2 / 9  # 2e-11; the least of float16 is 6e-8
    torch.testing.assert_close(found["linear.weight"], expected, rtol=1e-2, atol=0)


# Gram matrices


class Reader(nn.Module):
    """Uses a layer twice, and leaves out what is padding (token 0)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.twice = nn.Linear(3, 3)

    def token_mask(self, _name, batch):
        return batch["tokens"] != 0

    def forward(self, batch):
        return self.twice(self.twice(self.embedding(batch["tokens"])))


def mean_outer_product(rows):
    return sum(torch.outer(row, row) for row in rows) / len(rows)


def texts(*tokens):
    return TensorExamples({"tokens": torch.tensor(tokens)})


def test_gram_counts_padding():
    torch.manual_seed(0)
    model = Reader()
    found = gram_matrices(model, texts([1, 2, 0], [3, 0, 0]))["twice.weight"]
    rows = model.embedding.weight.detach()[[1, 2, 3]]
    seen = torch.cat([rows, model.twice(rows).detach()])
    torch.testing.assert_close(found, mean_outer_product(seen))


def test_gram_of_the_last_use_of_a_layer_alone():
    torch.manual_seed(0)
    model = Reader()
    found = gram_matrices(model, texts([1, 2], [3, 4]))["twice.weight"]
    rows = model.embedding.weight.detach()[1:]
    second = model.twice(rows).detach()
    assert not torch.allclose(found, mean_outer_product(second), rtol=1e-2)
    expected = (mean_outer_product(rows) + mean_outer_product(second)) / 2
    torch.testing.assert_close(found, expected)


def test_gram_that_grows_with_the_number_of_tokens():
    torch.manual_seed(0)
    model = Reader()
    once = gram_matrices(model, texts([1, 2], [3, 4]))["twice.weight"]
    twice = gram_matrices(model, texts([1, 2, 1, 2], [3, 4, 3, 4]))["twice.weight"]
    torch.testing.assert_close(twice, once)


def test_gram_of_attention_missed_by_hooks():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    layer_forward = model.forward
    model.forward = lambda batch: layer_forward(batch["x"])
    found = gram_matrices(model, TensorExamples({"x": torch.randn(3, 5, 4)}))
    matrices = {n for n, p in model.named_parameters() if p.dim() == 2}
    assert {"self_attn.in_proj_weight", "self_attn.out_proj.weight"} <= matrices
    assert found.keys() == matrices


def test_gram_overflows_in_sixteen_bits():
    model = Softmax().half()
    found = gram_matrices(model, examples([[300.0, 400.0]]))["linear.weight"]
    assert found.tolist() == [[90_000, 120_000], [120_000, 160_000]]


# Examples


@pytest.mark.parametrize(
    "measure", [diagonal_fisher, gram_matrices, output_gradient_grams]
)
def test_statistic_of_no_examples_is_nan(measure):
    with pytest.raises(InputError, match="no examples"):
        measure(Softmax(), examples(torch.zeros(0, 2)))


@pytest.mark.parametrize(
    "measure", [diagonal_fisher, gram_matrices, output_gradient_grams]
)
def test_fewer_examples_than_asked_for_fail(measure):
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    asked = measure(Softmax(), examples(x), limit=1000)["linear.weight"]
    all_of_them = measure(Softmax(), examples(x), limit=None)["linear.weight"]
    assert torch.equal(asked, all_of_them)


def test_statistics_measured_on_training_examples_unless_asked(experiment):
    settings = experiment().statistics
    assert {s.split for s in (settings.fisher, settings.gram, settings.gradient)} == {
        "validation"
    }
    assert {s.examples for s in (settings.fisher, settings.gram)} == {1000}


def test_norms_added_up_in_float32():
    entries = torch.randn(1001, generator=torch.Generator().manual_seed(0)) + 100
    exact = float(sum(Fraction(value) ** 2 for value in entries.tolist()))
    assert squared_norms({"w": entries})["w"] == pytest.approx(exact, rel=1e-15)
    assert float(entries.square().sum()) != pytest.approx(exact, rel=1e-9)
