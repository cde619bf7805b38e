"""What coefficients are learned by: the likelihood of answers, or the model's doubt."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mergegrid.likelihood import Positions, log_likelihood
from mergegrid.suites.examples import Batch


def negative_log_likelihood(
    model: nn.Module, batch: Batch, positions: Positions = "mean"
) -> Float[Tensor, " example"]:
    """Give the loss of supervised learning: -log p(gold answer).

    Args:
        model: gives log-probabilities [example, *position, label] for a batch.
        batch: labelled examples.
        positions: how an answer's positions are put together.

    Returns:
        One number for each example.
    """
    return -log_likelihood(model(batch).float(), batch["label"], positions)


def entropy(
    log_probabilities: Float[Tensor, "example label"],
) -> Float[Tensor, " example"]:
    """Give the entropy of the model's answer, in nats: -sum_y p(y) log p(y).

    Labels that are impossible (log-probability -inf) count for nothing, and no gradient
    goes through them.

    Args:
        log_probabilities: log p.

    Returns:
        One number for each example.
    """
    finite = log_probabilities.masked_fill(log_probabilities == -torch.inf, 0.0)
    return -(log_probabilities.exp() * finite).sum(dim=-1)


def first_answers(
    log_probabilities: Float[Tensor, "example *position label"],
    labels: Int[Tensor, "example *position"],
) -> Float[Tensor, "example label"]:
    """Give the distribution over what an answer begins with, which needs no label.

    Where an answer is one label that is the answer; where it is a text, its later
    tokens are predicted from its first ones, and so from the gold answer.

    Args:
        log_probabilities: of every label at every position.
        labels: negative where there is no position of an answer.

    Returns:
        Log-probabilities at the first position of every answer.
    """
    if labels.ndim == 1:
        return log_probabilities
    first = (labels >= 0).long().argmax(dim=1)
    return log_probabilities[torch.arange(len(labels), device=labels.device), first]


def effective_labels(predicted: Int[Tensor, " example"]) -> float:
    """Tell how many labels a model answers with: exp of its answers' entropy.

    1 says that all answers are the same; n that n labels are given equally often.

    Args:
        predicted: the label that the model gives to every example.

    Returns:
        Between 1 and the number of labels given.
    """
    counts = predicted.unique(return_counts=True)[1].double()
    shares = counts / counts.sum()
    return float((-(shares * shares.log()).sum()).exp())
