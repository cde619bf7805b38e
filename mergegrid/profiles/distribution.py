"""Distributions: how the entries of a task vector are spread, parameter by parameter.

Source:
    Yang et al., "SuperMerge: An Approach for Gradient-Based Model Merging", 2024,
    Figures 3 and 6: a violin for each weight matrix.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mergegrid.errors import NonFiniteError
from mergegrid.parameters import Parameters, Role, role

PER_MILLE = (0, 5, 10, 25, *range(50, 951, 50), 975, 990, 995, 1000)
"""The levels of the quantiles: from the least entry to the largest, closer in the
tails."""

ENTRIES_AT_ONCE = 1 << 22
"""How many entries are held in float64 at a time (32 MiB)."""


@dataclass(frozen=True)
class Distribution:
    """The entries of one parameter's task vector."""

    parameter: str
    """Its name."""

    entries: int
    """How many they are."""

    unchanged: int
    """How many of them are zero."""

    norm: float
    """Their L2 norm."""

    mean: float
    """Their mean."""

    deviation: float
    """Their standard deviation: of all entries, not of a sample."""

    magnitude: float
    """The mean of their magnitudes."""

    quantiles: tuple[float, ...]
    """Those at `PER_MILLE`: of n entries in ascending order, counted from 0, the one
    whose place is nearest to p (n - 1), of two the later. Each is an entry."""


def distributions(expert: Parameters, pretrained: Parameters) -> Iterator[Distribution]:
    """Measure an expert's task vector, one parameter after the other.

    Args:
        expert: the expert. A tied tensor belongs under one name only.
        pretrained: what it was fine-tuned from. What is no parameter - integers,
            running statistics of normalization - is passed over, and so is what holds
            no entries.

    Yields:
        The distributions, in the order of `pretrained`; differences are in float32.

    Raises:
        NonFiniteError: if a parameter of the expert holds NaN or infinity.
    """
    for name, before in pretrained.items():
        if role(name, before.dtype) is Role.MERGED and before.numel():
            change = expert[name].detach().float() - before.detach().float()
            yield _measure(name, change.flatten())


def _measure(name: str, change: Tensor) -> Distribution:
    chunks = change.split(ENTRIES_AT_ONCE)
    squares = math.fsum(float(chunk.double().square().sum()) for chunk in chunks)
    if not math.isfinite(squares):
        raise NonFiniteError(f"The parameter {name} holds NaN or infinity.")
    entries = change.numel()
    mean = math.fsum(float(chunk.double().sum()) for chunk in chunks) / entries
    spread = math.fsum(
        float((chunk.double() - mean).square().sum()) for chunk in chunks
    )
    magnitudes = math.fsum(float(chunk.double().abs().sum()) for chunk in chunks)
    return Distribution(
        parameter=name,
        entries=entries,
        unchanged=entries - int(torch.count_nonzero(change)),
        norm=math.sqrt(squares),
        mean=mean,
        deviation=math.sqrt(spread / entries),
        magnitude=magnitudes / entries,
        quantiles=_quantiles(change),
    )


def _quantiles(change: Tensor) -> tuple[float, ...]:
    last = change.numel() - 1
    places = [(level * last + 500) // 1000 for level in PER_MILLE]
    parted = np.partition(change.cpu().numpy(), sorted(set(places)))
    return tuple(parted[places].tolist())


def distribution_flops(entries: int) -> int:
    """Count the floating-point operations of measuring one expert.

    Args:
        entries: n, the number of entries of the task vector.

    Returns:
        For each entry a difference, a multiply-add for the norm, an addition for the
        mean, a difference and a multiply-add for the deviation, a magnitude and its
        addition. Quantiles are found by comparisons, which are not counted.
    """
    return 9 * entries
