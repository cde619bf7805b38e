"""Evaluation: how many examples a model answers correctly, with an error bar."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from mergegrid.suites.examples import Concatenation, Examples

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Tally:
    """How many examples were answered, and how many of them correctly."""

    correct: float
    """A count; a sum of scores in [0, 1] where answers can be partly right."""

    examples: int
    """How many there were."""

    def __add__(self, other: "Tally") -> "Tally":
        """Pool two disjoint sets of examples."""
        return Tally(self.correct + other.correct, self.examples + other.examples)

    @property
    def value(self) -> float:
        """Fraction answered correctly, in [0, 1]; NaN without examples."""
        return self.correct / self.examples if self.examples else math.nan

    @property
    def standard_error(self) -> float:
        """Binomial standard error of `value`, in its unit; NaN without examples."""
        if not self.examples:
            return math.nan
        return math.sqrt(self.value * (1 - self.value) / self.examples)


def evaluate(model: nn.Module, examples: Examples, *, batch_size: int = 256) -> Tally:
    """Count the examples whose most probable label is the right one.

    Args:
        model: gives the log-probability of every label; its mode is left as it was.
        examples: what to answer.
        batch_size: how many at a time. The result does not depend on it; speed does:
            activations of small models should fit into the processor's cache.

    Returns:
        The count.
    """
    return evaluate_tasks(model, {"": examples}, batch_size=batch_size)[""]


def evaluate_tasks(
    model: nn.Module, tasks: Mapping[Name, Examples], *, batch_size: int = 256
) -> dict[Name, Tally]:
    """Evaluate several tasks in batches that run across them.

    Args:
        model: see `evaluate`.
        tasks: the examples of each task, by any name.
        batch_size: see `evaluate`.

    Returns:
        The count of every task, by the same names.
    """
    if not tasks:
        return {}
    was_correct = _answers(model, Concatenation(tuple(tasks.values())), batch_size)
    sizes = [len(examples) for examples in tasks.values()]
    return {
        name: Tally(int(part.sum()), len(part))
        for name, part in zip(tasks, was_correct.split(sizes), strict=True)
    }


def _answers(model: nn.Module, examples: Examples, batch_size: int) -> Tensor:
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    parts = [torch.zeros(0, dtype=torch.bool)]
    try:
        with torch.inference_mode():
            for start in range(0, len(examples), batch_size):
                batch = {
                    name: tensor.to(device)
                    for name, tensor in examples[start : start + batch_size].items()
                }
                answers = model(batch).argmax(dim=-1)
                parts.append((answers == batch["label"]).cpu())
    finally:
        model.train(was_training)
    return torch.cat(parts)
