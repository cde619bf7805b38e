"""Iso-CTS: what the experts share and what is each one's own, all alike in size."""

import math
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Coverage, Method, Need
from mergegrid.methods.options import Option
from mergegrid.methods.singular import (
    NEGLIGIBLE,
    Triplets,
    decompose,
    decompose_flops,
    mean_value,
    polar_factor,
    polar_factor_flops,
)
from mergegrid.methods.tsv_m import SCALES


def iso_cts(
    task_vectors: Float[Tensor, "expert d_out d_in"],
    *,
    common_fraction: Annotated[
        float,
        Field(ge=0, le=1, description="share of the rank that is the experts' sum's"),
    ] = 0.8,
) -> Float[Tensor, "d_out d_in"]:
    r"""Merge one matrix's task vectors in a common and in task-specific subspaces.

    1. Common: of the sum of the task vectors, of rank R, the largest k triplets
       U_c S_c V_c^T, with k near `common_fraction` of R.
    2. Task-specific: of what is left of every task vector, task_vector_e
       - U_c U_c^T task_vector_e, the largest t = (R - k) / M triplets.
    3. With U, S, V the triplets of both side by side, merged = mean(S) polar(U)
       polar(V)^T, where polar(U) is the nearest matrix with orthonormal columns.

    R counts the singular values of the sum that do not count as zero (see
    `mergegrid.methods.singular`); the paper has min(d_out, d_in), which for adapters of
    low rank gives weight to arbitrary directions. Triplets in step 2 that count as zero
    against their task vector take part in nothing, not even the mean. A fraction of 1
    is Iso-C.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        common_fraction: the fraction in step 1, rounded as `task_rank` says.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`;
        computed in float64.

    Source:
        Marczak et al., "No Task Left Behind: Isotropic Model Merging with Common and
        Task-Specific Subspaces", ICML 2025, arXiv:2502.04959, sec. 4.
    """
    experts = len(task_vectors)
    common = decompose(task_vectors.sum(dim=0, dtype=torch.float64))
    rank = int((common.values > 0).sum())
    specific_rank = task_rank(rank, experts, common_fraction)
    common_rank = rank - experts * specific_rank
    left, values, right = common
    basis = left[:, :common_rank]
    chosen = [Triplets(basis, values[:common_rank], right[:, :common_rank])]
    if specific_rank > 0:
        for vector in task_vectors:
            whole = vector.double()
            own = whole - basis @ (basis.mT @ whole)
            floor = NEGLIGIBLE * whole.norm()
            chosen.append(decompose(own, count=specific_rank, floor=floor))
    left = polar_factor(torch.cat([triplets.left for triplets in chosen], dim=1))
    right = polar_factor(torch.cat([triplets.right for triplets in chosen], dim=1))
    mean = mean_value(torch.cat([triplets.values for triplets in chosen]))
    return (mean * (left @ right.mT)).to(task_vectors.dtype)


def task_rank(rank: int, experts: int, common_fraction: float) -> int:
    """Tell how many dimensions are every expert's own.

    Args:
        rank: R, the number of dimensions in all.
        experts: their number M.
        common_fraction: share of the common ones, taken as the decimal it is written
            as.

    Returns:
        (R - floor(common_fraction R)) / M, rounded to the nearest integer (halves to
        the even one), but never more than there are. What M of these leave is common.
    """
    least_common = math.floor(Fraction(str(common_fraction)) * rank)
    return min(round((rank - least_common) / experts), rank // experts)


def iso_cts_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of Iso-CTS on one matrix, to leading order.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **options: the recipe's options.

    Returns:
        For a sum of full rank n, the smaller side, with m the larger, k common
        dimensions and t of each expert: 4 m n^2 + 9 n^3 to decompose the sum; for each
        expert, if t > 0, 4 m n k + m n to project, 2 m n^2 + 9 n^3 + 2 m n t to
        decompose and 2 m n for the norm; 6 d n^2 + 9 n^3 for the polar factor of each
        side d; 2 m n^2 + m n for the product; 2M - 1 per entry for differences and sum,
        and the multiply-add of the scale.
    """
    d_out, d_in = shape
    entries, rank = d_out * d_in, min(d_out, d_in)
    specific_rank = task_rank(rank, experts, options["common_fraction"])
    common_rank = rank - experts * specific_rank
    projecting = 4 * entries * common_rank + 3 * entries
    decomposing = decompose_flops(d_out, d_in, specific_rank)
    each = projecting + decomposing if specific_rank else 0
    whitening = sum(polar_factor_flops(side, rank) for side in shape)
    product = 2 * entries * rank + entries
    ends = (2 * experts + 1) * entries
    return decompose_flops(d_out, d_in) + experts * each + whitening + product + ends


METHOD = Method(
    name="iso_cts",
    title="Iso-CTS",
    merge=iso_cts,
    version=1,
    source='Marczak et al., "No task left behind: isotropic model merging with common '
    'and task-specific subspaces", ICML 2025, arXiv:2502.04959, sec. 4',
    flops=iso_cts_flops,
    needs=frozenset({Need.PRETRAINED}),
    coverage=Coverage.MATRIX,
    scale=1.0,
    sweep=MappingProxyType({"scale": SCALES}),
    whole_tensor=True,
)
