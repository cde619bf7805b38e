"""Slices: some rows of a matrix at a time, so that nothing is in float64 as a whole."""

import math
from collections.abc import Iterator

from torch import Tensor

ENTRIES = 1 << 20
"""Entries of a slice, 8 MiB in float64."""

ROWS = 512
"""Rows that a slice has at least where it takes part in matrix products, which fewer
would slow down: 8192 columns of them are 32 MiB."""


def slices(rows: int, columns: int, *, at_least: int = 1) -> Iterator[slice]:
    """Cut a matrix into slices.

    Args:
        rows: number of rows.
        columns: number of columns, or of entries in a row of several matrices.
        at_least: rows of a slice, even if these are more than `ENTRIES` entries.

    Yields:
        Slices of the rows, in order.
    """
    step = max(ENTRIES // max(columns, 1), at_least, 1)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def row_slices(matrices: Tensor) -> Iterator[slice]:
    """Cut one matrix, or several matrices alike, into slices of their rows.

    Args:
        matrices: [*layer, row, column].

    Yields:
        Slices of the rows, in order; for matrix products.
    """
    *layers, rows, columns = matrices.shape
    number = max(math.prod(layers), 1)
    return slices(rows, number * columns, at_least=ROWS // number)
