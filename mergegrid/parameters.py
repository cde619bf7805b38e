"""Parameters: a model's tensors by name, and what merging does with each of them.

* Floating-point tensors are merged.
* Running statistics of normalization layers are not parameters: they are averaged (see
  `mergegrid.running_statistics`), and take no part in norms, thresholds or elections.
* Counters of batches are copied from the pretrained model (or the first expert).
* Other integers and booleans (position ids, masks) are copied too, and must be equal in
  every model.

A tensor that several names share (a tied embedding) is merged once, under the name that
sorts first.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

import torch
from torch import Tensor

Parameters: TypeAlias = Mapping[str, Tensor]
"""A model's tensors by name."""


class Role(StrEnum):
    """What merging does with a tensor."""

    MERGED = "merged"
    """It is a parameter."""

    AVERAGED = "averaged"
    """It is a running statistic of a normalization layer."""

    COPIED = "copied"
    """It holds integers or booleans, equal in every model."""

    COUNTER = "counter"
    """It counts batches, and may differ from model to model."""


def role(name: str, dtype: torch.dtype) -> Role:
    """Tell what merging does with a tensor.

    Args:
        name: the tensor's name.
        dtype: its type, in any model.

    Returns:
        Its role.
    """
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return Role.COUNTER
    if not dtype.is_floating_point:
        return Role.COPIED
    is_running = last in {"running_mean", "running_var"}
    return Role.AVERAGED if is_running else Role.MERGED
