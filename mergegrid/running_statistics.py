"""Running statistics of normalization layers, and what those of the experts make.

They are measurements on what a layer was given in training, not parameters. Those of
the merged model are only known by measuring them again on data; the average is what
the experts' tell of them.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mergegrid.sources import Source, read_whole

MEAN, VARIANCE = "running_mean", "running_var"
"""The last components of their names."""

RunningVariance: TypeAlias = Literal["average", "total"]
"""What a merged variance is: the average of the experts', or that plus the variance of
their means, which is the variance of what all experts saw together."""


def merge_running_statistic(
    name: str, experts: Sequence[Source], variance: RunningVariance
) -> Tensor:
    r"""Merge a running statistic.

    With means m_e and variances v_e of M experts, m = sum_e m_e / M, and

        average   v = sum_e v_e / M
        total     v = sum_e (v_e + m_e^2) / M - m^2    (the law of total variance)

    Args:
        name: its name, which ends in `running_mean` or `running_var`.
        experts: the experts' tensors.
        variance: which of these a variance is. Without a mean beside it, it is the
            average.

    Returns:
        Of the statistic's shape, float32; computed in float64.
    """
    merged = _stack(name, experts).mean(dim=0)
    mean = mean_beside(name, experts) if variance == "total" else None
    if mean is not None:
        # The same as above, without differences of large numbers.
        merged += _stack(mean, experts).var(dim=0, correction=0)
    return merged.float()


def mean_beside(name: str, experts: Sequence[Source]) -> str | None:
    """Find the mean that belongs to a variance.

    Args:
        name: a running statistic.
        experts: the experts.

    Returns:
        The name of the running mean beside it; None if it is no variance, or not all
        experts have one.
    """
    stem = name.removesuffix(VARIANCE)
    if stem == name or any(stem + MEAN not in source.infos for source in experts):
        return None
    return stem + MEAN


def _stack(name: str, experts: Sequence[Source]) -> Tensor:
    return torch.stack([read_whole(source, name).double() for source in experts])
