"""Counting right answers."""

import math

import pytest
import torch
from torch import nn

from mergegrid.evaluation import Tally, evaluate, evaluate_tasks
from mergegrid.suites.examples import TensorExamples


class Guess(nn.Module):
    """Says that the label is the rounded input; counts its calls."""

    def __init__(self, labels=5):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.labels = torch.arange(labels)
        self.modes = []

    def forward(self, batch):
        self.modes.append((self.training, torch.is_inference_mode_enabled()))
        return -(batch["input"][:, None] * self.scale - self.labels).abs()


def examples(*pairs):
    inputs, labels = zip(*pairs, strict=True)
    return TensorExamples(
        {"input": torch.tensor(inputs), "label": torch.tensor(labels)}
    )


SOME = examples((0.1, 0), (1.2, 1), (2.9, 2), (3.1, 3), (0.0, 4))


def test_several_tasks_are_counted_as_each_by_itself():
    tasks = {"a": SOME, "b": examples((4.0, 4)), ("c", 1): examples((4.0, 3), (3.0, 3))}
    together = evaluate_tasks(Guess(), tasks, batch_size=3)
    assert together == {name: evaluate(Guess(), task) for name, task in tasks.items()}
    assert list(together) == list(tasks)


def test_a_task_without_examples_has_no_value():
    empty = TensorExamples(
        {"input": torch.zeros(0), "label": torch.zeros(0, dtype=torch.int64)}
    )
    tallies = evaluate_tasks(Guess(), {"empty": empty, "some": SOME})
    assert tallies["empty"] == Tally(0, 0)
    assert math.isnan(tallies["empty"].value)
    assert math.isnan(tallies["empty"].standard_error)
    assert evaluate_tasks(Guess(), {}) == {}


def test_models_are_evaluated_in_evaluation_mode_and_left_in_their_own():
    model = Guess().train()
    evaluate(model, SOME)
    assert set(model.modes) == {(False, True)}
    assert model.training


def test_tallies_pool_and_tell_their_error():
    pooled = Tally(3, 4) + Tally(1, 4)
    assert pooled == Tally(4, 8)
    assert pooled.value == 0.5
    assert pooled.standard_error == pytest.approx(math.sqrt(0.5 * 0.5 / 8))
