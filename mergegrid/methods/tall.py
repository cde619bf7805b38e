"""Tall matrices that are never held as a whole, but some rows at a time, in float64."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.slices import ROWS, slices

Rows: TypeAlias = Callable[[slice], Tensor]
"""Gives some rows of a matrix, in float64 and in memory of their own."""


class Tall:
    """A matrix of which some rows are computed when they are needed.

    Args:
        rows: number of rows.
        columns: number of columns.
        times: gives the rows of the matrix times a matrix [column, other], or those of
            the matrix itself for None.
    """

    def __init__(
        self, rows: int, columns: int, times: Callable[[Tensor | None], Rows]
    ) -> None:
        self.rows = rows
        self.columns = columns
        self.times = times

    def slices(self) -> Iterator[slice]:
        """Cut the rows into slices.

        Yields:
            Slices, in order.
        """
        return slices(self.rows, self.columns, at_least=ROWS)

    def gram(self) -> Float64[Tensor, "column column"]:
        """Multiply the matrix's transpose with the matrix.

        Returns:
            Dot products of the columns.
        """
        rows_of = self.times(None)
        products = rows_of(slice(0)).new_zeros(self.columns, self.columns)
        for rows in self.slices():
            found = rows_of(rows)
            torch.addmm(products, found.mT, found, out=products)
        return products

    def cross(self, other: "Tall") -> Float64[Tensor, "column other"]:
        """Multiply the matrix's transpose with another matrix of as many rows.

        Args:
            other: the other matrix.

        Returns:
            Dot products of the columns of one with those of the other.
        """
        mine, others = self.times(None), other.times(None)
        products = mine(slice(0)).new_zeros(self.columns, other.columns)
        for rows in self.slices():
            torch.addmm(products, mine(rows).mT, others(rows), out=products)
        return products

    def sums(self) -> Float64[Tensor, " column"]:
        """Add up each column.

        Returns:
            The sums.
        """
        rows_of = self.times(None)
        found = rows_of(slice(0)).new_zeros(self.columns)
        for rows in self.slices():
            found += rows_of(rows).sum(dim=0)
        return found

    def norm(self) -> Float64[Tensor, ""]:
        """Measure the matrix.

        Returns:
            The square root of the sum of its squared entries.
        """
        rows_of = self.times(None)
        squared = rows_of(slice(0)).sum()
        for rows in self.slices():
            squared += rows_of(rows).square_().sum()
        return squared.sqrt_()

    def lengths(
        self, vectors: Float64[Tensor, "column vector"]
    ) -> Float64[Tensor, " vector"]:
        """Measure what the matrix makes of vectors.

        Args:
            vectors: as columns.

        Returns:
            The length of the matrix times each vector.
        """
        rows_of = self.times(vectors)
        squares = vectors.new_zeros(vectors.shape[1])
        for rows in self.slices():
            squares += rows_of(rows).square_().sum(dim=0)
        return squares.sqrt_()

    def product(self, factor: Float64[Tensor, "column other"]) -> "Tall":
        """Multiply the matrix with another one.

        Args:
            factor: the other matrix.

        Returns:
            The product, of which no more is held than it takes to compute its rows.
        """
        return computed(self.rows, factor.shape[1], self.times(factor))

    def write(
        self,
        into: Float[Tensor, "row other"],
        factor: Float64[Tensor, "column other"],
    ) -> None:
        """Multiply the matrix with another one, and cast the product.

        Args:
            into: where to.
            factor: the other matrix.
        """
        rows_of = self.times(factor)
        for rows in self.slices():
            into[rows] = rows_of(rows)


def computed(rows: int, columns: int, rows_of: Rows) -> Tall:
    """See what gives rows as a tall matrix.

    Args:
        rows: their number.
        columns: how long they are.
        rows_of: gives them.

    Returns:
        The matrix.
    """

    def times(factor: Tensor | None) -> Rows:
        if factor is None:
            return rows_of
        return lambda rows: rows_of(rows) @ factor

    return Tall(rows, columns, times)


def stored(matrix: Float[Tensor, "row column"]) -> Tall:
    """See a matrix in any precision as a tall one.

    Args:
        matrix: the matrix; not touched.

    Returns:
        The same in float64.
    """
    return summed(matrix[None])


def summed(matrices: Float[Tensor, "matrix row column"]) -> Tall:
    """See the sum of matrices as a tall one.

    Args:
        matrices: the matrices; not touched.

    Returns:
        Their sum in float64.
    """

    def rows_of(rows: slice) -> Tensor:
        found = matrices[0, rows].to(torch.float64, copy=True)
        for matrix in matrices[1:]:
            found += matrix[rows]
        return found

    _, height, columns = matrices.shape
    return computed(height, columns, rows_of)


def on_top(matrices: Float[Tensor, "matrix row column"]) -> Tall:
    """Put matrices on top of one another.

    Args:
        matrices: the matrices; not touched.

    Returns:
        [rows of all matrices, column] in float64.
    """
    number, height, columns = matrices.shape

    def rows_of(rows: slice) -> Tensor:
        start, stop, _ = rows.indices(number * height)
        parts = [
            matrix[max(start - above, 0) : max(stop - above, 0)]
            for above, matrix in zip(
                range(0, number * height, max(height, 1)), matrices, strict=False
            )
        ]
        return torch.cat([matrices[0, :0], *parts]).double()

    return computed(number * height, columns, rows_of)


def side_by_side(matrices: Sequence[Tall]) -> Tall:
    """Put matrices side by side.

    Args:
        matrices: the matrices, of as many rows.

    Returns:
        [matrix_1, matrix_2, ...].
    """
    parts = [matrix.times(None) for matrix in matrices]
    columns = sum(matrix.columns for matrix in matrices)

    def rows_of(rows: slice) -> Tensor:
        return torch.cat([part(rows) for part in parts], dim=1)

    return computed(matrices[0].rows, columns, rows_of)


def without(matrix: Tall, other: Tall, factor: Float64[Tensor, "other column"]) -> Tall:
    """Subtract a product from a matrix.

    Args:
        matrix: the matrix.
        other: the product's first factor.
        factor: the product's second factor.

    Returns:
        matrix - other factor.
    """

    def times(further: Tensor | None) -> Rows:
        mine = matrix.times(further)
        taken = other.times(factor if further is None else factor @ further)
        return lambda rows: mine(rows).sub_(taken(rows))

    return Tall(matrix.rows, matrix.columns, times)
