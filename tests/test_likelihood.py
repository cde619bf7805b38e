"""The likelihood of answers."""

import math

import pytest
import torch

from mergegrid.likelihood import log_likelihood

LOGS = torch.tensor(
    [
        [[0.1, 0.9], [0.5, 0.5], [0.25, 0.75]],
        [[0.4, 0.6], [0.2, 0.8], [0.3, 0.7]],
    ]
).log()


def test_the_mean_is_over_the_labels_that_an_answer_has():
    labels = torch.tensor([[1, 0, 1], [0, -100, -100]])
    found = log_likelihood(LOGS, labels, "mean")
    first = (math.log(0.9) + math.log(0.5) + math.log(0.75)) / 3
    assert found.tolist() == pytest.approx([first, math.log(0.4)])


def test_the_sum_is_over_the_same_labels():
    labels = torch.tensor([[1, 0, 1], [0, -100, -100]])
    found = log_likelihood(LOGS, labels, "sum")
    first = math.log(0.9) + math.log(0.5) + math.log(0.75)
    assert found.tolist() == pytest.approx([first, math.log(0.4)])


def test_one_label_is_its_own_log_probability():
    found = log_likelihood(LOGS[:, 0], torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([math.log(0.9), math.log(0.4)])


def test_padding_of_a_label_that_cannot_be_has_no_gradient():
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    impossible = logits.log_softmax(dim=-1) + torch.tensor([-torch.inf, 0.0])
    log_likelihood(impossible, torch.tensor([[1, -100]])).sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1].eq(0).all()
