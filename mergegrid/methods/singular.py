"""Singular values and vectors, in float64, from the Gram matrix of the smaller side."""

from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

NEGLIGIBLE = 1e-5
"""Share of the largest singular value up to which a direction counts as absent. Task
vectors are differences of float32 parameters, and if these are 100 times as large, what
rounding leaves in directions that were never trained comes up to about this."""

RESOLVED = 1e-7
"""Share of the largest singular value up to which directions cannot be told from absent
ones, since squaring halves the digits of float64."""

EIGENVECTOR_FLOPS = 9
"""Operations of a symmetric eigendecomposition with vectors, per n^3 (Golub and Van
Loan, "Matrix Computations", sec. 8.3)."""


class Triplets(NamedTuple):
    """Singular values in decreasing order, with their vectors as columns."""

    left: Float64[Tensor, "row triplet"]
    """Left singular vectors; zero where the singular value counts as zero."""

    values: Float64[Tensor, " triplet"]
    """Singular values; exactly zero where they count as zero."""

    right: Float64[Tensor, "column triplet"]
    """Right singular vectors; zero where the singular value counts as zero."""


def decompose(
    matrix: Float64[Tensor, "row column"],
    *,
    count: int | None = None,
    floor: float | Float64[Tensor, ""] | None = None,
) -> Triplets:
    """Decompose a matrix into its singular values and vectors.

    With n the smaller side, the eigenvectors of the n x n Gram matrix are the singular
    vectors of that side; what the matrix makes of them, divided by its length, are
    those of the other. Relative to the largest singular value, one of 1e-5 has vectors
    accurate to about 1e-6, more than float32 entries determine.

    Args:
        matrix: any matrix; not touched.
        count: how many triplets to return, the largest ones; None for n.
        floor: singular values up to this count as zero; None for `NEGLIGIBLE` times
            the largest. Those up to `RESOLVED` times the largest always do.

    Returns:
        The triplets. Signs, and bases where singular values are equal, are arbitrary.
    """
    is_wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.mT if is_wide else matrix
    inner = torch.linalg.eigh(tall.mT @ tall).eigenvectors.flip(1)[:, :count]
    images = tall @ inner
    values = images.norm(dim=0)
    largest = values[:1]  # a slice, since there may be none
    least = NEGLIGIBLE * largest if floor is None else floor
    is_kept = (values > RESOLVED * largest) & (values > least)
    values = values * is_kept
    inner = inner * is_kept
    outer = images * torch.where(is_kept, 1 / values, 0)
    return Triplets(
        left=inner if is_wide else outer,
        values=values,
        right=outer if is_wide else inner,
    )


def polar_factor(
    matrix: Float64[Tensor, "row column"],
) -> Float64[Tensor, "row column"]:
    """Find the nearest matrix with orthonormal columns, or rows if there are fewer.

    It is P Q^T for the singular value decomposition P S Q^T. Directions in which the
    matrix is as good as zero have no part in it: there, orthonormal columns would be
    arbitrary.

    Args:
        matrix: any matrix.

    Returns:
        The orthogonal factor of its polar decomposition.
    """
    left, _, right = decompose(matrix)
    return left @ right.mT


def mean_value(values: Float64[Tensor, " triplet"]) -> Float64[Tensor, ""]:
    """Average the singular values that do not count as zero.

    Args:
        values: singular values.

    Returns:
        Their mean; zero if there are none.
    """
    return values.sum() / (values > 0).sum().clamp(min=1)


def decompose_flops(rows: int, columns: int, count: int | None = None) -> int:
    """Count the operations of `decompose`, to leading order.

    Args:
        rows: number of rows.
        columns: number of columns.
        count: number of triplets; None for all.

    Returns:
        With n the smaller and m the larger side: 2 m n^2 for the Gram matrix, 9 n^3 for
        its eigenvectors, 2 m n for each triplet.
    """
    small, large = sorted((rows, columns))
    triplets = small if count is None else count
    products = 2 * large * small * (small + triplets)
    return products + EIGENVECTOR_FLOPS * small**3


def polar_factor_flops(rows: int, columns: int) -> int:
    """Count the operations of `polar_factor`, to leading order.

    Args:
        rows: number of rows.
        columns: number of columns.

    Returns:
        Those of `decompose`, and 2 m n^2 for the product.
    """
    return decompose_flops(rows, columns) + 2 * rows * columns * min(rows, columns)
