"""RegMean: the linear layer whose outputs stay closest to every expert's."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Need
from mergegrid.methods.options import Option
from mergegrid.methods.slices import row_slices
from mergegrid.methods.symmetric import eigenvector_bytes, eigenvectors_

NULL_EIGENVALUE = 1e-7
"""Share of the largest eigenvalue below which a direction counts as never seen: what
float32 leaves of a sum of Gram matrices is no more accurate."""

DEPENDENT = 1e-5
"""Share of its variance below which an input counts as determined by the others: in a
wide layer, rounding errors of float32 can hide a dependence up to about here."""


def regmean(
    experts: Float[Tensor, "expert *layer d_out d_in"],
    grams: Float[Tensor, "expert *layer d_in d_in"],
    *,
    off_diagonal: Annotated[
        float,
        Field(ge=0, le=1, description="factor on the Grams' off-diagonal entries"),
    ] = 0.9,
    ridge: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="pull towards the average"),
    ] = 0.0,
) -> Float[Tensor, "*layer d_out d_in"]:
    r"""Merge one linear layer so that its outputs stay closest to every expert's.

    With G_e = X_e^T X_e / L_e over the L_e inputs that expert e saw at this layer, and
    off-diagonal entries scaled by a, G~_e = a G_e + (1 - a) diag(G_e),

        merged = A + (sum_e (W_e - A) G~_e) S^+,    S = sum_e G~_e + r mean(diag) I,

    where A is the average and S^+ the pseudo-inverse. Wherever S is regular and r = 0
    this is (sum_e W_e G~_e) S^-1, at a = 1 the minimizer of
    sum_e |X_e (W - W_e)^T|^2 / L_e; in directions that no expert ever saw it keeps the
    average, where released code returns zeros or noise.

    S is factorized by Cholesky; if it is not positive definite in float64, or an input
    is determined by the others but for `DEPENDENT` of its variance, eigenvalues below
    `NULL_EIGENVALUE` times the largest are cut off instead.

    Args:
        experts: W_e, the layer's weight in every expert; several layers of one shape
            may be merged at once, each by itself.
        grams: G_e, from `mergegrid.statistics.gram`; a mean over tokens, not a sum, so
            that experts count alike whatever the number of their examples.
        off_diagonal: a. Less than 1 regularizes, and makes S regular but for inputs
            that are always zero.
        ridge: r, a pull towards the average relative to the mean diagonal entry.

    Returns:
        The merged weight, in the precision of `experts`; computed in float64.

    Source:
        Jin et al., "Dataless Knowledge Fusion by Merging Weights of Language Models",
        ICLR 2023, arXiv:2212.09849, eq. 2 and sec. 4.
    """
    recipe = {"off_diagonal": off_diagonal, "ridge": ridge}
    return next(regmean_all(experts, grams, recipes=[recipe]))


def regmean_all(
    experts: Float[Tensor, "expert *layer d_out d_in"],
    grams: Float[Tensor, "expert *layer d_in d_in"],
    *,
    recipes: Sequence[Mapping[str, Option]],
) -> Iterator[Float[Tensor, "*layer d_out d_in"]]:
    """Merge one linear layer by several recipes that share their sums over experts.

    Shrinking is linear, so that sum_e G~_e and sum_e (W_e - A) G~_e follow for every a
    from those of the full Grams and those of their diagonals: another recipe costs one
    solve, whatever the number of experts. Since differences from the average add up to
    nothing, the last expert's Gram G_M may be taken from all others,

        sum_e (W_e - A) G_e = sum_(e < M) (W_e - A) (G_e - G_M),

    which saves a product.

    Args:
        experts: see `regmean`.
        grams: see `regmean`.
        recipes: the options of `regmean`, for each result.

    Yields:
        The merged weights, in the order of the recipes.
    """
    full, target = _sums(experts, grams)
    for number, recipe in enumerate(recipes, start=1):
        is_last = number == len(recipes)
        summed = full if is_last else full.clone()
        solution = target if is_last else target.clone()
        share = recipe["off_diagonal"]
        if share < 1:
            _shrink(summed, solution, experts, grams, share)
        if recipe["ridge"] > 0:
            diagonal = _diagonal(summed)
            diagonal += recipe["ridge"] * diagonal.mean(dim=-1, keepdim=True)
        solve_(summed, solution)
        merged = torch.empty_like(experts[0])
        for rows in row_slices(solution):
            merged[..., rows, :] = solution[..., rows, :].add_(_mean(experts, rows))
        yield merged


def _sums(
    experts: Tensor, grams: Tensor
) -> tuple[Float64[Tensor, "*layer d_in d_in"], Float64[Tensor, "*layer d_out d_in"]]:
    """Give sum_e G_e and sum_e (W_e - A) G_e."""
    full = grams[-1].to(torch.float64, copy=True)
    further = torch.empty_like(full)
    target = torch.zeros_like(experts[0], dtype=torch.float64)
    mean = torch.empty_like(target)
    for rows in row_slices(mean):
        mean[..., rows, :] = _mean(experts, rows)
    # One expert at a time: no more than one difference of Grams is held.
    for weight, gram in zip(experts[:-1], grams[:-1], strict=True):
        further.copy_(gram)
        for rows in row_slices(full):
            full[..., rows, :] += further[..., rows, :]
            further[..., rows, :] -= grams[-1][..., rows, :]
        for rows in row_slices(target):
            difference = weight[..., rows, :] - mean[..., rows, :]
            target[..., rows, :] += difference @ further
    return full, target


def _shrink(
    summed: Float64[Tensor, "*layer d_in d_in"],
    target: Float64[Tensor, "*layer d_out d_in"],
    experts: Tensor,
    grams: Tensor,
    share: float,
) -> None:
    """Scale the Grams' off-diagonal entries in both sums."""
    diagonal = _diagonal(summed).clone()
    _diagonal(summed.mul_(share)).copy_(diagonal)
    diagonals = _diagonal(grams).double()
    further = (diagonals[:-1] - diagonals[-1]).unsqueeze(-2) * (1 - share)
    for rows in row_slices(target):
        some = target[..., rows, :].mul_(share)
        mean = _mean(experts, rows)
        for weight, factor in zip(experts[:-1], further, strict=True):
            some += (weight[..., rows, :] - mean) * factor


def _mean(experts: Tensor, rows: slice) -> Float64[Tensor, "*layer row d_in"]:
    """Average some rows of the experts' weights."""
    total = experts[0][..., rows, :].to(torch.float64, copy=True)
    for weight in experts[1:]:
        total += weight[..., rows, :]
    return total.div_(len(experts))


def solve_(
    matrix: Float64[Tensor, "*layer d_in d_in"],
    target: Float64[Tensor, "*layer d_out d_in"],
) -> None:
    """Solve X matrix = target for positive semi-definite matrices.

    Args:
        matrix: symmetric, such as a sum of Gram matrices; overwritten.
        target: rows in the span of `matrix`; overwritten by X = target matrix^+, zero
            in directions in which `matrix` is as good as zero.
    """
    diagonal = _diagonal(matrix)
    # Inputs that are always zero are replaced by independent ones, no larger than the
    # largest eigenvalue, that no target has any of.
    largest = diagonal.amax(dim=-1, keepdim=True) if diagonal.numel() else diagonal
    diagonal.copy_(torch.where(diagonal > 0, diagonal, largest))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    # In units in which every input has variance 1, a small pivot means dependence, not
    # just a small input.
    is_independent = _diagonal(factor).square() > DEPENDENT * diagonal
    is_singular = (failed != 0) | ~is_independent.all(dim=-1)
    if not is_singular.any():
        _solve_by_factor_(factor, target)
    elif is_singular.all():
        del factor
        _solve_by_eigenvalues_(matrix, target)
    else:  # only those layers pay for eigenvalues that have to
        for is_chosen, solve, given in (
            (~is_singular, _solve_by_factor_, factor),
            (is_singular, _solve_by_eigenvalues_, matrix),
        ):
            chosen = target[is_chosen]
            solve(given[is_chosen], chosen)
            target[is_chosen] = chosen


def _solve_by_factor_(
    factor: Float64[Tensor, "*layer d_in d_in"],
    target: Float64[Tensor, "*layer d_out d_in"],
) -> None:
    solve = torch.linalg.solve_triangular
    # PyTorch copies what it solves for.
    for rows in row_slices(target):
        half = solve(factor.mT, target[..., rows, :], upper=True, left=False)
        target[..., rows, :] = solve(factor, half, upper=False, left=False)


def _solve_by_eigenvalues_(
    matrix: Float64[Tensor, "*layer d_in d_in"],
    target: Float64[Tensor, "*layer d_out d_in"],
) -> None:
    *layers, d_out, d_in = target.shape
    count = math.prod(layers)
    every_matrix = matrix.view(count, d_in, d_in)
    for one, rows_of in zip(every_matrix, target.view(count, d_out, d_in), strict=True):
        values, vectors = eigenvectors_(one)
        is_regular = values > NULL_EIGENVALUE * values[-1:]
        inverse = torch.where(is_regular, 1 / values, 0)
        for rows in row_slices(rows_of):
            rows_of[rows] = ((rows_of[rows] @ vectors) * inverse) @ vectors.mT


def _diagonal(
    matrix: Float[Tensor, "*layer d_in d_in"],
) -> Float[Tensor, "*layer d_in"]:
    """Give a view of the diagonals of matrices."""
    return matrix.diagonal(dim1=-2, dim2=-1)


def regmean_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of RegMean on one linear layer.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        With d = d_in and k = d_out: M dk for the average, and for each expert but one 2
        d^2 k for a product with Grams, 2 dk for the difference from the average and the
        sum, 2 d^2 for the sum and the difference of Grams; these are common to all
        recipes of a sweep. To shrink the sums, d^2 + (M + 1) dk, and 3 dk for each
        expert but one; d^3 / 3 to factorize and 2 d^2 k to solve; (M + 1) dk to add the
        average. The fallback to eigenvalues costs more.
    """
    d_out, d_in = shape
    entries = d_out * d_in
    sums = (experts - 1) * (2 * entries * d_in + 2 * entries + 2 * d_in**2)
    shrinking = d_in**2 + (experts + 1) * entries + 3 * (experts - 1) * entries
    solving = d_in**3 // 3 + 2 * entries * d_in
    averages = (2 * experts + 1) * entries
    return sums + shrinking + solving + averages


def regmean_paper_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> float:
    """Count as the Realistic Evaluation paper does, Table 3.

    Args:
        shape: (k, d).
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        (M + 2) d^2 k + (3M - 2) dk.
    """
    entries = math.prod(shape)
    return float((experts + 2) * entries * shape[-1] + (3 * experts - 2) * entries)


def regmean_memory(shape: tuple[int, ...], experts: int) -> int:
    """Count the bytes that RegMean takes besides what it is handed.

    Args:
        shape: (d_out, d_in).
        experts: their number M.

    Returns:
        With d = d_in: 16 d^2 for sums and differences of Grams and 16 d d_out for
        target and average, or 24 d^2 to solve a singular system, 8 d d_out for the
        target and 4 d d_out for the result.
    """
    del experts
    width, entries = shape[1], math.prod(shape)
    summing = 16 * width**2 + 16 * entries
    return max(summing, eigenvector_bytes(width) + 12 * entries)


METHOD = Method(
    name="regmean",
    title="RegMean",
    merge=regmean,
    merge_all=regmean_all,
    version=1,
    source='Jin et al., "Dataless knowledge fusion by merging weights of language '
    'models", ICLR 2023, arXiv:2212.09849, eq. 2',
    flops=regmean_flops,
    memory=regmean_memory,
    paper_flops=regmean_paper_flops,
    needs=frozenset({Need.GRAM}),
    coverage=Coverage.LINEAR,
    whole_tensor=True,
    takes_stacks=True,
    sweep=MappingProxyType({"off_diagonal": tuple(tenth / 10 for tenth in range(11))}),
)
