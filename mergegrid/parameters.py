"""Parameters: a model's tensors by name."""

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

Parameters: TypeAlias = Mapping[str, Tensor]
"""A model's tensors by name."""
