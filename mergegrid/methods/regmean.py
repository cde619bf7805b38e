"""RegMean: the linear layer whose outputs stay closest to every expert's."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Coverage, Method, Need
from mergegrid.methods.options import Option

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
    solve, whatever the number of experts.

    Args:
        experts: see `regmean`.
        grams: see `regmean`.
        recipes: the options of `regmean`, for each result.

    Yields:
        The merged weights, in the order of the recipes.
    """
    mean = experts.double().mean(dim=0)
    full = torch.zeros_like(grams[0], dtype=torch.float64)
    target_of_full = torch.zeros_like(mean)
    target_of_diagonal = torch.zeros_like(mean)
    # One expert at a time: no more than one Gram matrix is held in float64.
    for weight, stored in zip(experts, grams, strict=True):
        gram = stored.double()
        difference = weight.double() - mean
        full += gram
        target_of_full += difference @ gram
        target_of_diagonal += difference * _diagonal(gram).unsqueeze(-2)
    for recipe in recipes:
        share = recipe["off_diagonal"]
        summed = share * full
        _diagonal(summed).copy_(_diagonal(full))
        target = share * target_of_full + (1 - share) * target_of_diagonal
        if recipe["ridge"] > 0:
            prior = recipe["ridge"] * _diagonal(summed).mean(dim=-1, keepdim=True)
            _diagonal(summed).add_(prior)
        yield (mean + solve(summed, target)).to(experts.dtype)


def solve(
    matrix: Float64[Tensor, "*layer d_in d_in"],
    target: Float64[Tensor, "*layer d_out d_in"],
) -> Float64[Tensor, "*layer d_out d_in"]:
    """Solve X matrix = target for positive semi-definite matrices.

    Args:
        matrix: symmetric, such as a sum of Gram matrices.
        target: rows in the span of `matrix`.

    Returns:
        X = target matrix^+; zero in directions in which `matrix` is as good as zero.
    """
    diagonal = _diagonal(matrix)
    is_seen = diagonal > 0
    # On a scale where every input has variance 1, a small pivot means dependence, not
    # just a small input; inputs that are always zero are replaced by independent ones.
    scale = torch.where(is_seen, diagonal.rsqrt(), 0).unsqueeze(-2)
    correlation = scale.mT * matrix * scale
    _diagonal(correlation).add_((~is_seen).double())
    factor, failed = torch.linalg.cholesky_ex(correlation)
    is_independent = (_diagonal(factor).square() > DEPENDENT).all(dim=-1)
    solution = torch.cholesky_solve((target * scale).mT, factor).mT * scale
    # Of several layers, only those pay for eigenvalues that have to.
    is_singular = (failed != 0) | ~is_independent
    solution[is_singular] = _solve_by_eigenvalues(
        matrix[is_singular], target[is_singular]
    )
    return solution


def _solve_by_eigenvalues(
    matrix: Float64[Tensor, "layer d_in d_in"],
    target: Float64[Tensor, "layer d_out d_in"],
) -> Float64[Tensor, "layer d_out d_in"]:
    values, vectors = torch.linalg.eigh(matrix)  # in ascending order
    is_regular = values > NULL_EIGENVALUE * values[:, -1:]
    inverse = torch.where(is_regular, 1 / values, 0)
    return ((target @ vectors) * inverse.unsqueeze(-2)) @ vectors.mT


def _diagonal(
    matrix: Float64[Tensor, "*layer d_in d_in"],
) -> Float64[Tensor, "*layer d_in"]:
    """Give a view of the diagonals of matrices."""
    return matrix.diagonal(dim1=-2, dim2=-1)


def regmean_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of RegMean on one linear layer.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        With d = d_in and k = d_out: 2M dk for the average and the differences from it,
        2M d^2 k for the products with Grams and 2M dk for those with their diagonals,
        M d^2 + M dk to add them up, d^2 + 3dk to shrink the sums, d^3 / 3 to factorize,
        2 d^2 k to solve, dk to add the average. The fallback to eigenvalues costs more.
        In a sweep, the sums over experts are common to all recipes.
    """
    d_out, d_in = shape
    entries = d_out * d_in
    products = 2 * experts * entries * (d_in + 1)
    differences_and_sums = 3 * experts * entries + experts * d_in**2
    shrinking = d_in**2 + 4 * entries
    return products + differences_and_sums + shrinking + _solve_flops(d_out, d_in)


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


def _solve_flops(d_out: int, d_in: int) -> int:
    return d_in**3 // 3 + 2 * d_out * d_in**2


METHOD = Method(
    name="regmean",
    title="RegMean",
    merge=regmean,
    merge_all=regmean_all,
    version=1,
    source='Jin et al., "Dataless knowledge fusion by merging weights of language '
    'models", ICLR 2023, arXiv:2212.09849, eq. 2',
    flops=regmean_flops,
    paper_flops=regmean_paper_flops,
    needs=frozenset({Need.GRAM}),
    coverage=Coverage.LINEAR,
    whole_tensor=True,
    sweep=MappingProxyType({"off_diagonal": tuple(tenth / 10 for tenth in range(11))}),
)
