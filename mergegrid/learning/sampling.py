"""Which examples are learned from, and in which order: drawn by key, not in turn.

An update's examples follow from its number alone, so that descent that was cut off goes
on as if it had not been.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mergegrid.errors import InputError
from mergegrid.randomness import uniform


@dataclass(frozen=True)
class Share:
    """The examples of one task that are used."""

    learned: Int[Tensor, " learned"]
    """Those that gradients come from."""

    held_out: Int[Tensor, " held_out"]
    """Those by which descent is stopped early."""

    @property
    def used(self) -> int:
        """How many are used altogether."""
        return len(self.learned) + len(self.held_out)


def draw_share(
    task: str, available: int, *, examples: int | None, holdout: float, seed: int
) -> Share:
    """Choose examples of a task, and hold a part of them out.

    Args:
        task: the task's name; part of the draw's key.
        available: how many examples there are.
        examples: how many to use; None for all.
        holdout: the fraction of them that is held out; at least one if it is not 0.
        seed: decides which.

    Returns:
        Their indices.

    Raises:
        InputError: if there are fewer examples than are to be used, or too few to hold
            any out.
    """
    wanted = available if examples is None else examples
    if wanted > available:
        raise InputError(
            f"{task} has {available} examples to learn from, fewer than {wanted}: ask "
            f"for fewer examples, or take another split."
        )
    order = permutation(seed, task, "examples", available)[:wanted]
    out = math.ceil(holdout * wanted)
    if out >= wanted:
        raise InputError(
            f"{task} has {wanted} example{'s' * (wanted != 1)} to learn from, of which "
            f"{out} would be held out: use more examples, or a holdout of 0."
        )
    return Share(order[: wanted - out].sort().values, order[wanted - out :])


def batch_of(step: int, size: int, batch_size: int, *, seed: int, of: str) -> Tensor:
    """Give the examples of one update: every epoch is a new order of all of them.

    Args:
        step: the update, from 0.
        size: how many examples there are.
        batch_size: how many are in an update; at most `size` are.
        seed: decides the orders.
        of: what the examples are of; part of the key.

    Returns:
        Positions, [batch].
    """
    count = min(batch_size, size)
    first = step * count
    parts: list[Tensor] = []
    while count > 0:
        epoch, start = divmod(first, size)
        part = permutation(seed, of, f"epoch {epoch}", size)[start : start + count]
        parts.append(part)
        first += len(part)
        count -= len(part)
    return torch.cat(parts)


def permutation(seed: int, of: str, what: str, size: int) -> Int[Tensor, " size"]:
    """Draw an order.

    Args:
        seed: tells repetitions apart.
        of: what is put in order; part of the key.
        what: what for; part of the key.
        size: how many there are.

    Returns:
        Every number from 0 to size - 1 once.
    """
    return uniform(seed, of, what, (size,)).argsort(stable=True)
