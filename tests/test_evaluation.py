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


class Echo(nn.Module):
    """Says for every position of its input that the label is the input."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.sizes = []

    def forward(self, batch):
        self.sizes.append(len(batch["input"]))
        return nn.functional.one_hot(batch["input"], 9).float() * self.scale

    def write(self, batch):
        self.sizes.append(len(batch["input"]))
        return [" ".join(map(str, row.tolist())) for row in batch["input"]]


def answered(inputs, answers, **others):
    """Make examples whose acceptable answers are texts."""
    examples = TensorExamples({"input": torch.tensor(inputs)} | others)
    examples.references = answers.__getitem__
    return examples


def test_an_answer_of_several_positions_is_right_in_part():
    labels = torch.tensor([[1, 2, -100, -100], [1, 2, 3, 4], [5, -100, -100, -100]])
    inputs = torch.tensor([[1, 0, 0, 0], [1, 2, 3, 0], [5, 0, 0, 0]])
    tally = evaluate(Echo(), TensorExamples({"input": inputs, "label": labels}))
    scores = [1 / 2, 3 / 4, 1]
    assert tally.correct == pytest.approx(sum(scores))
    mean, squares = sum(scores) / 3, sum(score**2 for score in scores) / 3
    assert tally.standard_error == pytest.approx(math.sqrt((squares - mean**2) / 3))


def test_tasks_with_one_metric_share_batches_and_keep_their_own_answers():
    tasks = {
        "a": answered([[1, 2], [3, 4]], [("1 2",), ("4 3",)]),
        "b": answered([[5, 6]], [("6", "5 6")]),
    }
    model = Echo()
    metrics = dict.fromkeys(tasks, "exact_match")
    found = evaluate_tasks(model, tasks, metrics=metrics)
    assert found == {"a": Tally(1, 2), "b": Tally(1, 1)}
    assert model.sizes == [3]


def test_the_median_over_templates_is_of_each_task():
    template = torch.tensor([0, 1, 2, 0, 1, 2])
    two = answered([[1]] * 6, [("1",)] * 6, template=template)
    one = answered(
        [[1]] * 6,
        [("1",), ("0",), ("0",), ("1",), ("0",), ("1",)],
        template=template,
    )
    metrics = dict.fromkeys((1, 2), "exact_match")
    found = evaluate_tasks(Echo(), {1: one, 2: two}, metrics=metrics)
    assert (found[1].value, found[2].value) == (0.5, 1)
    assert (found[1].examples, found[2].examples) == (2, 2)
