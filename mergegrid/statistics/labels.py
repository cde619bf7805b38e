"""Which labels the gradients of a classifier's log-probabilities are taken for."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mergegrid.errors import InputError
from mergegrid.likelihood import Positions, position_weights
from mergegrid.randomness import uniform
from mergegrid.suites.examples import Batch

Variant: TypeAlias = Literal["exact", "sampled", "empirical"]
"""All labels, each by its probability; one drawn from the model; or the gold label."""


class LabelDraws:
    """Numbers that labels are drawn by: one for each example and position.

    Args:
        seed: decides them.
        examples: how many examples there are in all.
    """

    def __init__(self, seed: int, examples: int) -> None:
        self._seed = seed
        self._examples = examples
        self._drawn: list[Tensor] = []

    def of(self, indices: Tensor, batch: Batch) -> Float[Tensor, "example *position"]:
        """Give the numbers of a batch.

        Args:
            indices: the examples' indices.
            batch: their inputs; `label` says how many positions there are.

        Returns:
            Uniform in [0, 1). An example's numbers depend on nothing but the seed, the
            number of examples and its index: not on the batch or its padding.

        Raises:
            ValueError: if labels have more than one axis of positions.
        """
        labels = batch["label"]
        if labels.ndim > 2:
            raise ValueError(f"Labels have {labels.ndim} axes, which should be 1 or 2.")
        wanted = 1 if labels.ndim == 1 else labels.shape[1]
        while len(self._drawn) < wanted:
            purpose = "labels" if not self._drawn else f"labels/{len(self._drawn)}"
            self._drawn.append(uniform(self._seed, "", purpose, (self._examples,)))
        drawn = torch.stack([draws[indices] for draws in self._drawn[:wanted]], dim=-1)
        return (drawn.squeeze(-1) if labels.ndim == 1 else drawn).to(labels.device)


def label_directions(
    log_probabilities: Float[Tensor, "*example label"],
    batch: Batch,
    draws: Float[Tensor, "*example"],
    variant: Variant,
    *,
    axes: int = 0,
    positions: Positions = "mean",
) -> Iterator[Float[Tensor, "*example label"]]:
    """Give the vectors v for which the Fisher information sums squares.

    For each example it is the sum over v of g g^T, g the gradient of v . log p(.|x).

    Args:
        log_probabilities: log p(y|x), detached; with an answer of several positions,
            of each given the gold labels before it.
        batch: what the model was given; `label` is the gold label, for `empirical`, and
            negative at positions that do not count.
        draws: uniform in [0, 1), for `sampled`.
        variant: which labels.
        axes: how many of the axes are positions; 0 where an answer is one label.
        positions: whether a score is the mean or the sum over positions.

    Yields:
        For `exact` as many vectors as there are labels, otherwise one.

    Raises:
        InputError: for `exact` with several positions, whose answers are too many.
    """
    weights = position_weights(batch["label"], positions, axes=axes)
    weights = weights.unsqueeze(-1).to(log_probabilities.dtype)
    labels = torch.arange(log_probabilities.shape[-1], device=log_probabilities.device)
    match variant:
        case "exact":
            if axes:
                raise InputError(
                    "The exact Fisher information has one pass for every possible "
                    "answer, and free text has too many: use sampled or empirical."
                )
            # The square root, for it is squared with the gradient.
            roots = (log_probabilities / 2).exp()
            for label in labels:
                yield (labels == label) * roots * weights
            return
        case "sampled":
            cumulative = log_probabilities.double().exp().cumsum(-1)
            below = cumulative <= draws.unsqueeze(-1) * cumulative[..., -1:]
            chosen = below.sum(dim=-1)
        case "empirical":
            chosen = batch["label"]
    yield (labels == chosen.unsqueeze(-1)).to(log_probabilities.dtype) * weights
