"""Metrics: how answers are scored, each example in [0, 1].

A metric asks a model for what it needs: log-probabilities of labels, the likelihood of
answer choices, or free text; a family's models have those methods that its tasks'
metrics ask for.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mergegrid.errors import UnknownNameError
from mergegrid.likelihood import position_weights
from mergegrid.suites.examples import Batch
from mergegrid.text_overlap import exact_match, rouge, squad

References: TypeAlias = Sequence[tuple[str, ...]]
"""For each example the acceptable answers."""


@runtime_checkable
class Chooses(Protocol):
    """A model that tells how likely each of an example's answer choices is."""

    def rank(self, batch: Batch) -> Float[Tensor, "example choice"]:
        """Score answer choices.

        Args:
            batch: with `choice` [example, choice, position], negative where there is
                no token; `answer` [example], the position of the right choice; and
                `characters` and `bytes` [example, choice], how long choices are.

        Returns:
            Log-likelihoods, as the family normalizes them; minus infinity for choices
            without tokens.
        """
        ...


@runtime_checkable
class Writes(Protocol):
    """A model that answers in free text."""

    def write(self, batch: Batch) -> list[str]:
        """Answer questions.

        Args:
            batch: the questions.

        Returns:
            An answer for each.
        """
        ...


Metric: TypeAlias = Callable[
    [nn.Module, Batch, References | None], Float[Tensor, " example"]
]
"""Scores a batch: the model's answers against the labels or the acceptable answers."""


def accuracy(
    model: nn.Module, batch: Batch, references: References | None
) -> Float[Tensor, " example"]:
    """Tell whether the most probable label is the right one.

    Args:
        model: gives log-probabilities [example, *position, label].
        batch: with `label` [example, *position].
        references: not used.

    Returns:
        1 where it is, else 0; where an answer has several positions, for what fraction
        of them it is, given the right labels before.
    """
    del references
    labels = batch["label"]
    is_right = (model(batch).argmax(dim=-1) == labels).float()
    axes = labels.ndim - 1
    if not axes:
        return is_right
    return (is_right * position_weights(labels, "mean", axes=axes)).flatten(1).sum(1)


def choice(
    model: nn.Module, batch: Batch, references: References | None
) -> Float[Tensor, " example"]:
    """Tell whether the likeliest answer choice is the right one (rank classification).

    Args:
        model: one that `Chooses`.
        batch: see `Chooses`.
        references: not used.

    Returns:
        1 where it is, else 0.
    """
    del references
    assert isinstance(model, Chooses), f"{type(model).__name__} ranks no choices"
    return (model.rank(batch).argmax(dim=-1) == batch["answer"]).float()


def _per_length(unit: str) -> Metric:
    """Make the metric `choice` with log-likelihoods divided by the choices' lengths."""

    def metric(
        model: nn.Module, batch: Batch, references: References | None
    ) -> Float[Tensor, " example"]:
        del references
        assert isinstance(model, Chooses), f"{type(model).__name__} ranks no choices"
        likelihoods = model.rank(batch) / batch[unit].clamp(min=1)
        return (likelihoods.argmax(dim=-1) == batch["answer"]).float()

    return metric


def _written(score: Callable[[str, tuple[str, ...]], float]) -> Metric:
    def metric(
        model: nn.Module, batch: Batch, references: References | None
    ) -> Float[Tensor, " example"]:
        assert isinstance(model, Writes), f"{type(model).__name__} writes nothing"
        assert references is not None, "free answers are compared with texts"
        pairs = zip(model.write(batch), references, strict=True)
        return torch.tensor([score(given, wanted) for given, wanted in pairs])

    return metric


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": accuracy,
        "choice": choice,
        "choice_per_character": _per_length("characters"),
        "choice_per_byte": _per_length("bytes"),
        "exact_match": _written(exact_match),
        "squad": _written(squad),
        "rouge": _written(rouge),
    }
)
"""Every metric by name."""


OF_CHOICES = ("choice", "choice_per_character", "choice_per_byte")
"""Those of answers that are chosen; the last two are of models whose log-likelihoods
are sums over tokens."""


def get_metric(name: str) -> Metric:
    """Look a metric up.

    Args:
        name: its name.

    Returns:
        The metric.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return METRICS[name]
