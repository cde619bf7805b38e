"""Fisher information against loops over autograd in float64."""

import copy

import pytest
import torch
from torch import nn

from mergegrid.errors import InputError, NonFiniteError
from mergegrid.statistics import fisher as module
from mergegrid.statistics.fisher import diagonal_fisher, fisher_flops
from mergegrid.suites.examples import TensorExamples

VARIANTS = ("exact", "sampled", "empirical")


def by_hand(model, examples, weights):
    """Sum weights(log-probabilities, label) x squared gradients, one by one."""
    model = copy.deepcopy(model).double().eval()
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for index in range(len(examples)):
        example = examples[index : index + 1]
        outputs = model(example)[0]
        for label, weight in enumerate(weights(outputs.detach(), example["label"][0])):
            gradients = torch.autograd.grad(
                outputs[label],
                list(parameters.values()),
                retain_graph=True,
                allow_unused=True,
            )
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += weight * gradient**2 / len(examples)
    return total


def exact_by_hand(model, examples):
    return by_hand(model, examples, lambda outputs, _: outputs.exp())


def empirical_by_hand(model, examples):
    return by_hand(
        model, examples, lambda outputs, gold: torch.eye(len(outputs)).double()[gold]
    )


def assert_alike(found, expected, rtol=1e-4):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(
            found[name].double(), value.double(), rtol=rtol, atol=1e-6 * scale, msg=name
        )


def test_exact_is_the_expectation_over_the_models_labels(reader, texts):
    found = diagonal_fisher(reader, texts, variant="exact")
    assert_alike(found, exact_by_hand(reader, texts))
    assert all(value.dtype == torch.float32 for value in found.values())


def test_empirical_takes_the_gold_labels(reader, texts):
    found = diagonal_fisher(reader, texts, variant="empirical")
    assert_alike(found, empirical_by_hand(reader, texts))


def test_a_model_in_float64_is_measured_in_float64(reader, texts):
    found = diagonal_fisher(reader.double(), texts, variant="exact")
    assert_alike(found, exact_by_hand(reader, texts), rtol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_result_does_not_depend_on_batches(reader, texts, variant, monkeypatch):
    once = diagonal_fisher(reader, texts, variant=variant, batch_size=11)
    for batch_size in (1, 4):
        split = diagonal_fisher(reader, texts, variant=variant, batch_size=batch_size)
        assert_alike(split, once)
    monkeypatch.setattr(module, "GRADIENT_ENTRIES", 1)
    assert_alike(diagonal_fisher(reader, texts, variant=variant), once)


class Softmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, batch):
        return self.linear(batch["x"].to(self.linear.weight)).log_softmax(dim=-1)


def test_sampled_is_unbiased_for_exact():
    torch.manual_seed(0)
    model = Softmax()
    few = TensorExamples({"x": torch.randn(3, 2), "label": torch.zeros(3).long()})
    repetitions = 4000
    many = few[torch.arange(3).repeat(repetitions)]
    found = diagonal_fisher(model, TensorExamples(many), limit=None, batch_size=4000)
    exact = exact_by_hand(model, few)
    fourth = by_hand_fourth_moment(model, few)
    for name, value in exact.items():
        deviation = ((fourth[name] - value**2).clamp(min=0) / (3 * repetitions)).sqrt()
        assert ((found[name] - value).abs() <= 5 * deviation + 1e-9).all(), name
    # The gold label is another quantity, which the same tolerance tells apart.
    empirical = empirical_by_hand(model, few)["linear.bias"]
    assert ((empirical - exact["linear.bias"]).abs() > 5 * deviation).any()


def by_hand_fourth_moment(model, examples):
    model = copy.deepcopy(model).double()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x in examples[:]["x"].double():
        probabilities = model({"x": x[None]})[0].exp().detach()
        for label, probability in enumerate(probabilities):
            score = (torch.arange(3) == label).double() - probabilities
            total["linear.bias"] += probability * score**4 / 3
            total["linear.weight"] += probability * torch.outer(score, x) ** 4 / 3
    return total


def test_each_draw_belongs_to_its_example_and_seed(reader, texts):
    first = diagonal_fisher(reader, texts, seed=1)
    assert_alike(diagonal_fisher(reader, texts, seed=1), first, rtol=0)
    other = diagonal_fisher(reader, texts, seed=2)
    assert not torch.equal(other["head.bias"], first["head.bias"])


def test_examples_are_drawn_at_random_and_none_twice(reader, texts):
    some = diagonal_fisher(reader, texts, variant="empirical", limit=5, seed=3)
    chosen = module.choose_examples(texts, limit=5, seed=3)
    assert len(set(chosen.tolist())) == 5
    assert chosen.tolist() != [0, 1, 2, 3, 4]
    assert_alike(some, empirical_by_hand(reader, TensorExamples(texts[chosen])))


def test_frozen_parameters_are_left_out_and_unused_ones_have_none(reader, texts):
    found = diagonal_fisher(reader, texts)
    assert found.keys() == {n for n, p in reader.named_parameters() if p.requires_grad}
    assert not found["unused.weight"].any()
    assert found["attention.in_proj_weight"].any()
    # A token that never occurs.
    absent = sorted({*range(7)} - {*texts[:]["tokens"].flatten().tolist()})
    assert not found["embedding.weight"][absent].any()


def test_the_model_is_left_as_it_was(reader, texts):
    reader.train()
    reader.norm.eval()
    before = copy.deepcopy(reader.state_dict())
    diagonal_fisher(reader, texts)
    assert reader.training
    assert reader.dropout.training
    assert not reader.norm.training
    assert all(parameter.grad is None for parameter in reader.parameters())
    for name, value in reader.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("variant", ["exact", "empirical"])
def test_an_open_clip_model_is_measured_like_any_other(clip, pictures, variant):
    reference = exact_by_hand if variant == "exact" else empirical_by_hand
    found = diagonal_fisher(clip, pictures, variant=variant, batch_size=4)
    assert all(name.startswith("visual.") for name in found)
    assert_alike(found, reference(clip, pictures), rtol=1e-3)


def test_what_cannot_be_measured_is_refused(reader, texts):
    with pytest.raises(InputError, match="no examples"):
        diagonal_fisher(reader, TensorExamples(texts[:0]))
    with pytest.raises(InputError, match="not 0"):
        diagonal_fisher(reader, texts, limit=0)
    nn.init.constant_(reader.head.bias, float("inf"))
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        diagonal_fisher(reader, texts)
    with pytest.raises(InputError, match="requires gradients"):
        diagonal_fisher(reader.requires_grad_(requires_grad=False), texts)


def test_flops_are_those_of_a_forward_and_a_backward_pass_and_the_squares():
    model = Softmax()
    examples = TensorExamples({"x": torch.randn(5, 2), "label": torch.zeros(5).long()})
    d, k = 2, 3
    forward, backward, squares = 2 * d * k, 2 * d * k, 2 * (d * k + k)
    exact, paper = fisher_flops(model, examples, limit=4)
    assert exact == 4 * (forward + backward + squares)
    assert paper == 4 * (4 * d**2 * k)
    exact, _ = fisher_flops(model, examples, variant="exact", limit=4)
    assert exact == 4 * (forward + 3 * (backward + squares))
