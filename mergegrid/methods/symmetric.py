"""Eigenvectors of symmetric matrices, in the memory of the matrix itself."""

import torch
from jaxtyping import Float64
from torch import Tensor


def eigenvectors_(
    matrix: Float64[Tensor, "n n"],
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, "n n"]]:
    """Decompose a symmetric matrix into its eigenvalues and eigenvectors.

    LAPACK writes the eigenvectors over what it decomposes, and takes twice as much
    besides; a copy of the matrix, which PyTorch would make, is saved.

    Args:
        matrix: symmetric, dense and row-major; overwritten by its eigenvectors, as
            rows.

    Returns:
        The eigenvalues in ascending order, and the eigenvectors as columns, which are
        a view of `matrix`.
    """
    values = matrix.new_empty(len(matrix))
    # The transpose is as LAPACK has matrices, by columns.
    torch.linalg.eigh(matrix.mT, out=(values, matrix.mT))
    return values, matrix.mT


def eigenvector_bytes(size: int) -> int:
    """Count the bytes that `eigenvectors_` takes.

    Args:
        size: n, number of rows of the matrix.

    Returns:
        24 n^2: the matrix, and twice as much besides.
    """
    return 24 * size**2
