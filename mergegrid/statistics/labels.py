"""Which labels the gradients of a classifier's log-probabilities are taken for."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mergegrid.suites.examples import Batch

Variant: TypeAlias = Literal["exact", "sampled", "empirical"]
"""All labels, each by its probability; one drawn from the model; or the gold label."""


def label_directions(
    log_probabilities: Float[Tensor, "*example label"],
    batch: Batch,
    draws: Float[Tensor, "*example"],
    variant: Variant,
) -> Iterator[Float[Tensor, "*example label"]]:
    """Give the vectors v for which the Fisher information sums squares.

    For each example it is the sum over v of g g^T, g the gradient of v . log p(.|x).

    Args:
        log_probabilities: log p(y|x), detached.
        batch: what the model was given; `label` is the gold label, for `empirical`.
        draws: uniform in [0, 1), for `sampled`.
        variant: which labels.

    Yields:
        For `exact` as many vectors as there are labels, otherwise one.
    """
    labels = torch.arange(log_probabilities.shape[-1], device=log_probabilities.device)
    match variant:
        case "exact":
            # The square root, for it is squared with the gradient.
            roots = (log_probabilities / 2).exp()
            for label in labels:
                yield (labels == label) * roots
            return
        case "sampled":
            cumulative = log_probabilities.double().exp().cumsum(-1)
            below = cumulative <= draws.unsqueeze(-1) * cumulative[..., -1:]
            chosen = below.sum(dim=-1)
        case "empirical":
            chosen = batch["label"]
    yield (labels == chosen.unsqueeze(-1)).to(log_probabilities.dtype)
