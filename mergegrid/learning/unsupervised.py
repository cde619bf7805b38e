"""Learning coefficients from inputs alone: the model is to be sure of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mergegrid.learning.coefficients import Parametrization
from mergegrid.learning.descent import Descent, LossOnModel, Seen, descend
from mergegrid.learning.learned import Checkpoint, Learned
from mergegrid.learning.merged_model import MergedModel
from mergegrid.learning.objectives import effective_labels, entropy, first_answers
from mergegrid.learning.sampling import batch_of, draw_share
from mergegrid.suites.examples import Batch
from mergegrid.suites.suite import Progress

MOST_LOOKED_AT = 256
"""Inputs of each task that are looked at for a collapse."""

COLLAPSED = 0.5
"""A task has collapsed if the model answers it with fewer than this fraction of the
labels that it answered with at the start; see `effective_labels`."""


@dataclass(frozen=True)
class Adaptation:
    """What inputs are used."""

    examples: int | None
    """Of each task; None for all."""

    batch_size: int
    """Inputs of each task in an update."""


def learn_unsupervised(
    model: MergedModel,
    parametrization: Parametrization,
    initial: float,
    descent: Descent,
    how: Adaptation,
    *,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress | None,
) -> Learned:
    """Minimize the entropy of the model's answers.

    L(c) = mean over tasks of the mean over inputs x of H(p(y | x; theta(c))).

    A model that gives the same answer to everything has no entropy either: how many
    labels each task is answered with is watched.

    Args:
        model: what is learned, with the inputs of its tasks.
        parametrization: how coefficients follow from what is learned.
        initial: every coefficient at the start.
        descent: how they go downhill.
        how: what inputs are used.
        seed: decides their order.
        checkpoint: see `descend`.
        progress: see `descend`.

    Returns:
        The coefficients, and the tasks that collapsed.
    """
    inputs = {
        task: draw_share(
            task, len(found), examples=how.examples, holdout=0.0, seed=seed
        ).learned
        for task, found in model.examples.items()
    }
    labels: list[dict[str, float]] = []
    pool, first = model.pooled()

    def loss_of(step: int) -> LossOnModel:
        drawn = {
            task: indices[
                batch_of(step, len(indices), how.batch_size, seed=seed, of=task)
            ]
            for task, indices in inputs.items()
        }
        together = torch.cat([drawn[task] + first[task] for task in drawn])
        batch = model.batch(pool, together)
        return _mean_entropy(batch, [len(own) for own in drawn.values()])

    def look() -> Seen:
        labels.append({task: _labels(model, task, inputs[task]) for task in inputs})
        return Seen(labels=min(_kept(labels[0], labels[-1]).values()))

    before = checkpoint.load()
    if before is not None:  # what the model did at the start is not kept: look again
        coefficients = parametrization.coefficients(parametrization.start(initial))
        model.merge(coefficients)
        look()
    found = descend(
        model,
        parametrization,
        initial,
        descent,
        loss_of,
        look,
        checkpoint=checkpoint,
        progress=progress,
    )
    at_start = labels[0]
    look()
    kept = _kept(at_start, labels[-1])
    used = sum(map(len, inputs.values()))
    looked_at = sum(min(len(own), MOST_LOOKED_AT) for own in inputs.values())
    return Learned(
        coefficients=found.coefficients,
        history=found.history,
        steps=found.steps,
        examples=found.steps
        * sum(min(how.batch_size, len(own)) for own in inputs.values()),
        looked_at=looked_at * len(found.history),
        unlabelled=used,
        trained=parametrization.start(initial).numel(),
        together=len(model.experts),
        collapsed=tuple(task for task, part in kept.items() if part < COLLAPSED),
    )


def _mean_entropy(batch: Batch, sizes: Sequence[int]) -> LossOnModel:
    """Make the mean over tasks, whose inputs come one after the other."""

    def loss(module: nn.Module) -> Tensor:
        answers = first_answers(module(batch).float(), batch["label"])
        of_tasks = entropy(answers).split(list(sizes))
        return torch.stack([task.mean() for task in of_tasks]).mean()

    return loss


def _labels(model: MergedModel, task: str, indices: Tensor) -> float:
    def answers(module: nn.Module, batch: Batch) -> Tensor:
        return first_answers(module(batch), batch["label"]).argmax(dim=-1)

    some = indices[:MOST_LOOKED_AT]
    found = model.losses(model.examples[task], some, answers, MOST_LOOKED_AT)
    return effective_labels(found.long())


def _kept(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    return {task: now[task] / before[task] for task in before}
