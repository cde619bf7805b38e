"""The likelihood of answers, which training maximizes and Fisher measures."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

Positions: TypeAlias = Literal["mean", "sum"]
"""Whether the log-probabilities of an answer's positions are averaged or added up."""


def position_weights(
    labels: Int[Tensor, "*example"], positions: Positions, *, axes: int
) -> Float[Tensor, "*example"]:
    """Weigh the positions of answers.

    Args:
        labels: gold labels, negative where there is none.
        positions: how positions are put together.
        axes: how many of the last axes are positions; 0 where an answer is one label.

    Returns:
        For `mean` one over the answer's number of positions, for `sum` one; zero where
        there is no label.
    """
    weights = (labels >= 0).float()
    if positions == "mean" and axes:
        over = tuple(range(-axes, 0))
        weights = weights / weights.sum(dim=over, keepdim=True).clamp(min=1)
    return weights


def log_likelihood(
    log_probabilities: Float[Tensor, "example *position label"],
    labels: Int[Tensor, "example *position"],
    positions: Positions = "mean",
) -> Float[Tensor, " example"]:
    """Give the log-probability of every example's gold answer.

        mean    1/L_x sum_t log p(y_t | x, y_<t),  L_x the labels of example x
        sum         sum_t log p(y_t | x, y_<t)

    Args:
        log_probabilities: of every label at every position.
        labels: the gold labels, negative where there is none.
        positions: how positions are put together.

    Returns:
        One number for each example.
    """
    given = log_probabilities.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    weights = position_weights(labels, positions, axes=labels.ndim - 1)
    # A label that cannot be has probability 0, and must not turn padding into NaN.
    kept = torch.where(labels >= 0, given, torch.zeros_like(given))
    return (kept * weights).flatten(1).sum(dim=1) if labels.ndim > 1 else kept * weights
