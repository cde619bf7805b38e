"""Padding: stacking tensors that differ in their sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor

TOKEN_PADDING = 0
"""What fills tokens up; which of them are tokens is for masks and negative labels to
say, so that its meaning does not matter."""

LABEL_PADDING = -100
"""What fills labels up: negative, so that it is no label."""


def pad(name: str, rows: Sequence[Tensor]) -> Tensor:
    """Stack tensors that differ in their sizes, filling them up at the end.

    Args:
        name: what they are; `label`, `choice` and names that begin with them are
            filled up with a negative number, all others with 0.
        rows: at least one tensor; all of one type and number of axes.

    Returns:
        One tensor, with an axis for the rows in front.
    """
    is_label = name.startswith(("label", "choice"))
    shape = [max(sizes) for sizes in zip(*(row.shape for row in rows), strict=True)]
    padded = torch.full(
        (len(rows), *shape),
        LABEL_PADDING if is_label else TOKEN_PADDING,
        dtype=rows[0].dtype,
    )
    for into, row in zip(padded, rows, strict=True):
        into[tuple(slice(size) for size in row.shape)] = row
    return padded


def join(name: str, parts: Sequence[Tensor]) -> Tensor:
    """Put batches one after the other, filling up the narrower ones.

    Args:
        name: what they are, see `pad`.
        parts: at least one tensor [example, ...].

    Returns:
        One tensor [example, ...].
    """
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(list(parts))
    return pad(name, [row for part in parts for row in part])
