"""Supervised learning of coefficients, which SuperMerge and its tree have in common."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mergegrid.learning.coefficients import Parametrization
from mergegrid.learning.descent import Descent, Found, LossOnModel, Seen, descend
from mergegrid.learning.learned import Checkpoint
from mergegrid.learning.merged_model import MergedModel
from mergegrid.learning.objectives import negative_log_likelihood
from mergegrid.learning.sampling import Share, batch_of, draw_share
from mergegrid.likelihood import Positions
from mergegrid.suites.examples import Batch
from mergegrid.suites.suite import Progress

MOST_AT_ONCE = 256
"""Held-out examples that go through the model at a time."""


@dataclass(frozen=True)
class Supervision:
    """What labelled examples are used, and how."""

    examples: int | None
    """Of each task; None for all."""

    holdout: float
    """Fraction of them that stops descent early."""

    batch_size: int
    """Examples in an update."""

    positions: Positions
    """How the positions of an answer are put together."""


def shares_of(model: MergedModel, how: Supervision, *, seed: int) -> dict[str, Share]:
    """Draw every task's labelled examples.

    Args:
        model: what is learned.
        how: how many are used, and held out.
        seed: decides which.

    Returns:
        The examples by task; a task's do not depend on the other tasks.
    """
    return {
        task: draw_share(
            task, len(found), examples=how.examples, holdout=how.holdout, seed=seed
        )
        for task, found in model.examples.items()
    }


def learn_supervised(
    model: MergedModel,
    parametrization: Parametrization,
    initial: float,
    descent: Descent,
    how: Supervision,
    shares: Mapping[str, Share],
    *,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress | None,
    node: str = "",
) -> tuple[Found, int, int]:
    """Minimize the loss over the pooled labelled examples of all tasks.

    L(c) = mean over examples (x, y) of -log p(y | x; theta(c)), by batches that are
    drawn from the pool; descent is stopped by the mean over tasks of the mean loss on
    what is held out.

    Args:
        model: what is learned, with the examples of its tasks.
        parametrization: how coefficients follow from what is learned.
        initial: every coefficient at the start.
        descent: how they go downhill.
        how: how labelled examples are used.
        shares: which, by task.
        seed: decides the order of the examples.
        checkpoint: see `descend`.
        progress: see `descend`.
        node: see `descend`.

    Returns:
        The coefficients; the examples that gradients were taken of; those that were
        looked at.
    """
    pool, first = model.pooled()
    learned = torch.cat([shares[task].learned + first[task] for task in first])
    held_out = [shares[task].held_out + first[task] for task in first]

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        return negative_log_likelihood(module, batch, how.positions)

    def loss_of(step: int) -> LossOnModel:
        order = f"pool {node}"
        drawn = batch_of(step, len(learned), how.batch_size, seed=seed, of=order)
        batch = model.batch(pool, learned[drawn])
        return lambda module: loss(module, batch).mean()

    def look() -> Seen:
        if not how.holdout:
            return Seen()
        losses = model.losses(pool, torch.cat(held_out), loss, MOST_AT_ONCE)
        of_tasks = losses.split([len(out) for out in held_out])
        means = torch.stack([task.mean() for task in of_tasks])
        return Seen(held_out=means.mean().item())

    found = descend(
        model,
        parametrization,
        initial,
        descent,
        loss_of,
        look,
        checkpoint=checkpoint,
        progress=progress,
        node=node,
    )
    gradients = found.steps * min(how.batch_size, len(learned))
    looked = len(found.history) * sum(map(len, held_out))
    return found, gradients, looked
