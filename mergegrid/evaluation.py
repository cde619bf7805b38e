"""Evaluation: how well a model answers the examples of tasks, with an error bar."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from mergegrid.metrics import Metric, References, get_metric
from mergegrid.suites.examples import Concatenation, Examples

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Tally:
    """How many examples were answered, and how well."""

    correct: float
    """Sum of the scores, each in [0, 1]: a count where answers are right or wrong."""

    examples: int
    """How many there were."""

    squares: float | None = None
    """Sum of the squared scores; None where it is `correct`, scores being 0 or 1."""

    def __add__(self, other: "Tally") -> "Tally":
        """Pool two disjoint sets of examples."""
        squares = None
        if self.squares is not None or other.squares is not None:
            squares = self._squares + other._squares
        return Tally(
            self.correct + other.correct, self.examples + other.examples, squares
        )

    @property
    def _squares(self) -> float:
        return self.correct if self.squares is None else self.squares

    @property
    def value(self) -> float:
        """Mean score, in [0, 1]; NaN without examples."""
        return self.correct / self.examples if self.examples else math.nan

    @property
    def standard_error(self) -> float:
        """Standard error of `value`, in its unit; NaN without examples.

        The root of the scores' variance over their number, both over n, which is the
        binomial standard error where scores are 0 or 1.
        """
        if not self.examples:
            return math.nan
        if self.squares is None:
            variance = self.value * (1 - self.value)
        else:
            variance = max(0.0, self.squares / self.examples - self.value**2)
        return math.sqrt(variance / self.examples)


@runtime_checkable
class Answered(Protocol):
    """Examples whose acceptable answers are known as texts."""

    def references(self, indices: slice) -> References:
        """Give the acceptable answers of some examples, in order."""
        ...


def evaluate(
    model: nn.Module,
    examples: Examples,
    *,
    metric: str = "accuracy",
    batch_size: int = 256,
) -> Tally:
    """Score a model's answers.

    Args:
        model: has what the metric asks for; its mode is left as it was.
        examples: what to answer.
        metric: a name from `mergegrid.metrics`.
        batch_size: how many at a time. The result does not depend on it; speed does:
            activations of small models should fit into the processor's cache.

    Returns:
        The sum of scores.
    """
    return evaluate_tasks(
        model, {"": examples}, metrics={"": metric}, batch_size=batch_size
    )[""]


def evaluate_tasks(
    model: nn.Module,
    tasks: Mapping[Name, Examples],
    *,
    metrics: Mapping[Name, str] | None = None,
    batch_size: int = 256,
) -> dict[Name, Tally]:
    """Evaluate several tasks, those scored by the same metric in common batches.

    Where a task's examples were made with several prompt templates (`template` in their
    batches), its score is the median over the templates.

    Args:
        model: see `evaluate`.
        tasks: the examples of each task, by any name.
        metrics: each task's metric; None where all are scored by accuracy.
        batch_size: see `evaluate`.

    Returns:
        The sum of scores of every task, by the same names.
    """
    by_metric: dict[str, list[Name]] = {}
    for name in tasks:
        by_metric.setdefault(metrics[name] if metrics else "accuracy", []).append(name)
    found: dict[Name, Tally] = {}
    for metric, names in by_metric.items():
        parts = [tasks[name] for name in names]
        scores, templates = _scores(model, parts, get_metric(metric), batch_size)
        sizes = [len(part) for part in parts]
        split = zip(names, scores.split(sizes), templates.split(sizes), strict=True)
        found |= {name: _tally(own, made_with) for name, own, made_with in split}
    return {name: found[name] for name in tasks}


def _tally(scores: Tensor, templates: Tensor) -> Tally:
    groups = [scores[templates == number].double() for number in templates.unique()]
    if len(groups) > 1:
        means = torch.stack([group.mean() for group in groups])
        median = means.quantile(0.5).item()
        squares = torch.stack([group.square().mean() for group in groups])
        count = len(groups[0])
        return Tally(median * count, count, squares.quantile(0.5).item() * count)
    total, squares = scores.double().sum().item(), scores.double().square().sum().item()
    if total == squares:  # every score is 0 or 1
        return Tally(int(total), len(scores))
    return Tally(total, len(scores), squares)


def _scores(
    model: nn.Module, parts: Sequence[Examples], metric: Metric, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Score every example, and tell which prompt template it was made with."""
    examples = Concatenation(parts)
    answers = _references(parts)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    scores = [torch.zeros(0)]
    templates = [torch.zeros(0, dtype=torch.int64)]
    try:
        with torch.inference_mode():
            for start in range(0, len(examples), batch_size):
                part = slice(start, start + batch_size)
                batch = {
                    name: tensor.to(device) for name, tensor in examples[part].items()
                }
                references = None if answers is None else answers[part]
                scores.append(metric(model, batch, references).cpu())
                unknown = torch.zeros(len(scores[-1]), dtype=torch.int64)
                templates.append(batch.get("template", unknown).cpu())
    finally:
        model.train(was_training)
    return torch.cat(scores), torch.cat(templates)


def _references(parts: Sequence[Examples]) -> References | None:
    """Collect the acceptable answers, if they are known as texts."""
    everything = slice(None)
    known = [
        part.references(everything) for part in parts if isinstance(part, Answered)
    ]
    if len(known) < len(parts):
        return None
    return [answers for part in known for answers in part]
