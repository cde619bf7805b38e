"""Measuring on data: which examples, in what batches, with the model in which mode."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from mergegrid.errors import InputError
from mergegrid.randomness import uniform
from mergegrid.suites import examples as suites
from mergegrid.suites.examples import Batch


@runtime_checkable
class Examples(suites.Examples, Protocol):
    """A suite's examples, or anything like them; told at run time, as tests do."""


def choose_examples(
    examples: Examples, *, limit: int | None, seed: int
) -> Int64[Tensor, " chosen"]:
    """Choose the examples that a statistic is measured on.

    They are drawn at random without replacement, since examples may be in the order of
    their labels; whatever is measured with one seed is measured on the same ones.

    Args:
        examples: what to choose from.
        limit: how many at most; None for all.
        seed: decides which.

    Returns:
        Their indices, in ascending order.

    Raises:
        InputError: if there are no examples, or none are asked for.
    """
    if limit is not None and limit < 1:
        raise InputError(f"A statistic needs at least one example, not {limit}.")
    if not len(examples):
        raise InputError("There are no examples to measure a statistic on.")
    if limit is None or limit >= len(examples):
        return torch.arange(len(examples))
    draws = uniform(seed, "", "examples", (len(examples),))
    return draws.argsort(stable=True)[:limit].sort().values


def batches(
    examples: Examples, chosen: Tensor, *, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Batch]]:
    """Fetch examples in batches.

    Args:
        examples: what to fetch from.
        chosen: indices of examples.
        batch_size: how many at a time.
        device: where the inputs are wanted.

    Yields:
        The indices of a batch and its inputs.
    """
    for indices in chosen.split(batch_size):
        inputs = examples[indices]
        yield indices, {name: tensor.to(device) for name, tensor in inputs.items()}


@contextmanager
def evaluation_mode(model: nn.Module) -> Generator[torch.device]:
    """Put a model into evaluation mode (no dropout), and back as each module was.

    Args:
        model: a model with parameters.

    Yields:
        The device of its parameters.
    """
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield next(model.parameters()).device
    finally:
        for module, was_training in training:
            module.training = was_training
