"""Singular values and vectors, in float64, from the Gram matrix of the smaller side.

Matrices are taken as tall ones, whose columns are the smaller side. The vectors of the
larger side are what the matrix makes of those of the smaller one, and never held.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.symmetric import eigenvectors_
from mergegrid.methods.tall import Tall, computed, stored

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
    """Singular values of a tall matrix in decreasing order, with vectors of columns."""

    right: Float64[Tensor, "column triplet"]
    """Right singular vectors; zero where the singular value counts as zero."""

    values: Float64[Tensor, " triplet"]
    """Singular values; exactly zero where they count as zero."""

    @classmethod
    def empty(cls, columns: int, count: int, *, like: Tensor) -> "Triplets":
        """Make room for triplets.

        Args:
            columns: how long right singular vectors are.
            count: how many triplets.
            like: a tensor where they shall be.

        Returns:
            Triplets with anything in them.
        """
        right = like.new_empty(columns, count, dtype=torch.float64)
        return cls(right, like.new_empty(count, dtype=torch.float64))

    def between(self, start: int, stop: int) -> "Triplets":
        """Give some of the triplets.

        Args:
            start: number of the first.
            stop: number after the last.

        Returns:
            A view of them.
        """
        return Triplets(self.right[:, start:stop], self.values[start:stop])

    def copy_(self, other: "Triplets") -> None:
        """Take over as many other triplets.

        Args:
            other: the others.
        """
        self.right.copy_(other.right)
        self.values.copy_(other.values)

    def left(self, matrix: Tall) -> Tall:
        """Give the left singular vectors.

        Args:
            matrix: what was decomposed.

        Returns:
            [row, triplet], of which no more is held than it takes to compute its rows:
            what the matrix makes of right singular vectors, over singular values; zero
            where these are.
        """
        images, divisors = matrix.times(self.right), self._divisors()
        return computed(
            matrix.rows, len(self.values), lambda rows: images(rows).div_(divisors)
        )

    def to_left(self) -> Float64[Tensor, "column triplet"]:
        """Give what the matrix must be multiplied with to get left singular vectors.

        Returns:
            Right singular vectors over singular values; zero where these are.
        """
        return self.right / self._divisors()

    def _divisors(self) -> Float64[Tensor, " triplet"]:
        return self.values.where(self.values > 0, 1)


def standing(
    matrices: Float[Tensor, "matrix d_out d_in"],
) -> Float[Tensor, "matrix row column"]:
    """Turn matrices so that they have no more columns than rows.

    Args:
        matrices: matrices of one shape.

    Returns:
        A view of them, or of their transposes.
    """
    is_wide = matrices.shape[1] < matrices.shape[2]
    return matrices.mT if is_wide else matrices


def decompose(
    matrix: Tall,
    *,
    count: int | None = None,
    floor: float | Float64[Tensor, ""] | None = None,
) -> Triplets:
    """Decompose a tall matrix into its singular values and vectors.

    The eigenvectors of the Gram matrix of its n columns are the right singular vectors;
    how long the matrix makes them are the singular values. Relative to the largest
    singular value, one of 1e-5 has vectors accurate to about 1e-6, more than float32
    entries determine.

    Args:
        matrix: any matrix; the fewer columns it has, the better.
        count: how many triplets to return, the largest ones; None for n.
        floor: singular values up to this count as zero; None for `NEGLIGIBLE` times
            the largest. Those up to `RESOLVED` times the largest always do.

    Returns:
        The triplets. Signs, and bases where singular values are equal, are arbitrary.
    """
    right = leading_eigenvectors_(matrix.gram(), count)
    return found_in(right, matrix.lengths(right), floor=floor)


def leading_eigenvectors_(
    gram: Float64[Tensor, "column column"], count: int | None = None
) -> Float64[Tensor, "column vector"]:
    """Find the eigenvectors of a matrix's largest eigenvalues.

    Args:
        gram: a symmetric matrix; overwritten.
        count: how many; None for all.

    Returns:
        The eigenvectors as columns, that of the largest eigenvalue first.
    """
    _, vectors = eigenvectors_(gram)
    return vectors[:, len(gram) - (len(gram) if count is None else count) :].flip(1)


def found_in(
    right: Float64[Tensor, "column triplet"],
    lengths: Float64[Tensor, " triplet"],
    *,
    floor: float | Float64[Tensor, ""] | None = None,
) -> Triplets:
    """Tell which singular values count as zero, and set them and their vectors to zero.

    Args:
        right: right singular vectors; overwritten.
        lengths: how long the matrix makes them, in decreasing order; overwritten.
        floor: see `decompose`.

    Returns:
        The triplets.
    """
    largest = lengths[:1].clone()  # a slice, since there may be none
    least = NEGLIGIBLE * largest if floor is None else floor
    is_kept = (lengths > RESOLVED * largest) & (lengths > least)
    return Triplets(right.mul_(is_kept), lengths.mul_(is_kept))


def polar(matrix: Tall) -> Float64[Tensor, "column column"]:
    """Find what makes a matrix's columns orthonormal, and changes them least.

    For the singular value decomposition P S Q^T it is Q S^+ Q^T: the matrix times it
    is P Q^T, the nearest matrix with orthonormal columns, or rows if there are fewer.
    Directions in which the matrix is as good as zero have no part in it: there,
    orthonormal columns would be arbitrary.

    Args:
        matrix: any matrix.

    Returns:
        What to multiply the matrix with.
    """
    triplets = decompose(matrix)
    return triplets.to_left() @ triplets.right.mT


def assembled(
    left: Tall,
    right: Float64[Tensor, "column other"],
    like: Float[Tensor, "matrix d_out d_in"],
) -> Float[Tensor, "d_out d_in"]:
    """Multiply a tall matrix with another, and turn the product as matrices were.

    Args:
        left: the tall matrix.
        right: the other one.
        like: matrices before `standing` turned them.

    Returns:
        The product, in the precision of `like`.
    """
    product = torch.empty_like(like[0])
    (into,) = standing(product[None])
    left.write(into, right)
    return product


def orthogonalized(
    left: Tall,
    values: Float64[Tensor, "*triplet"],
    right: Float64[Tensor, "column triplet"],
    like: Float[Tensor, "matrix d_out d_in"],
) -> Float[Tensor, "d_out d_in"]:
    """Put triplets together whose vectors are not orthogonal to one another.

    Args:
        left: left singular vectors of several matrices, side by side.
        values: singular values, or one for all.
        right: right singular vectors.
        like: see `assembled`.

    Returns:
        polar(left) diag(values) polar(right)^T, where polar(U) is the nearest matrix
        with orthonormal columns, in the precision of `like`.
    """
    whitened = polar(left).mul_(values)
    whitened = whitened @ polar(stored(right)).mT
    return assembled(left, whitened @ right.mT, like)


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
        rows: m, number of rows.
        columns: n, number of columns.
        count: number of triplets; None for all.

    Returns:
        2 m n^2 for the Gram matrix, 9 n^3 for its eigenvectors, 2 m n for each triplet.
    """
    triplets = columns if count is None else count
    products = 2 * rows * columns * (columns + triplets)
    return products + EIGENVECTOR_FLOPS * columns**3


def polar_flops(rows: int, columns: int) -> int:
    """Count the operations of `polar`, to leading order.

    Args:
        rows: number of rows.
        columns: n, number of columns.

    Returns:
        Those of `decompose`, and 2 n^3 for the product.
    """
    return decompose_flops(rows, columns) + 2 * columns**3
