"""Gradients with respect to coefficients, without a copy of the model per expert."""

import torch
from torch.func import functional_call

from mergegrid.learning.held import Combined, Held
from mergegrid.learning.merged_model import MergedModel
from tests.learning.conftest import Setting


class Exact:
    """Task vectors in float64."""

    def __init__(self, setting):
        self.names = tuple(setting.pretrained)
        self.experts = tuple(setting.experts)
        self._setting = setting

    def of(self, name):
        before = self._setting.pretrained[name]
        experts = self._setting.experts.values()
        return torch.stack([(e[name] - before).flatten() for e in experts])


def merged_model(setting):
    return MergedModel(
        setting.model(), setting.pretrained, Exact(setting), setting.examples
    )


def loss_of(setting, task):
    batch = setting.examples[task][:]

    def loss(model):
        labels = batch["label"].unsqueeze(-1)
        return -model(batch).gather(-1, labels).mean()

    return loss


def coefficients_of(model, seed=1):
    shape = len(model.names), len(model.experts)
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=draws, dtype=torch.float64)


def merged_by_hand(setting, coefficients):
    return {
        name: before
        + sum(
            coefficients[j, i] * (expert[name] - before)
            for i, expert in enumerate(setting.experts.values())
        )
        for j, (name, before) in enumerate(setting.pretrained.items())
    }


def test_the_model_is_the_pretrained_one_plus_the_weighted_task_vectors():
    setting = Setting(dtype=torch.float64)
    model = merged_model(setting)
    coefficients = coefficients_of(model)
    model.merge(coefficients)
    expected = merged_by_hand(setting, coefficients)
    for name, parameter in model.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


def test_gradients_agree_with_finite_differences_in_float64():
    setting = Setting(dtype=torch.float64)
    model = merged_model(setting)
    coefficients = coefficients_of(model)
    losses = [loss_of(setting, task) for task in setting.experts]

    def together(module):
        return sum(loss(module) for loss in losses)

    value, slope = model.gradient(coefficients, together)

    def total(at):
        model.merge(at)
        with torch.no_grad():
            return sum(loss(model.model).item() for loss in losses)

    assert abs(value - total(coefficients)) < 1e-12
    step = 1e-6
    for j in range(len(model.names)):
        for i in range(len(model.experts)):
            change = torch.zeros_like(coefficients)
            change[j, i] = step
            central = (total(coefficients + change) - total(coefficients - change)) / (
                2 * step
            )
            assert abs(central - slope[j, i].item()) < 1e-7


def test_gradients_agree_with_differentiating_through_the_merge():
    setting = Setting(dtype=torch.float64)
    model = merged_model(setting)
    coefficients = coefficients_of(model).requires_grad_()
    batch = setting.examples["a"][:]
    answers = functional_call(
        setting.model(), merged_by_hand(setting, coefficients), (batch,)
    )
    (-answers.gather(-1, batch["label"].unsqueeze(-1)).mean()).backward()
    _, slope = model.gradient(coefficients.detach(), loss_of(setting, "a"))
    torch.testing.assert_close(slope, coefficients.grad)


def test_no_gradient_of_a_parameter_is_left_over():
    setting = Setting()
    model = merged_model(setting)
    alive = []

    def loss(module):
        value = loss_of(setting, "a")(module)
        module.first.weight.register_hook(lambda _: alive.append(None))
        return value

    model.gradient(coefficients_of(model), loss)
    assert alive
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_sums_of_task_vectors_are_task_vectors_too():
    setting = Setting(dtype=torch.float64)
    directions = Exact(setting)
    weights = coefficients_of(merged_model(setting))
    one = torch.zeros_like(weights)
    one[:, 2] = 1
    held = Held(Combined(directions, {"a+b": weights, "c": one}))
    assert held.experts == ("a+b", "c")
    for number, name in enumerate(directions.names):
        vectors = directions.of(name)
        expected = torch.stack([weights[number] @ vectors, vectors[2]])
        torch.testing.assert_close(held.of(name), expected)
