"""Iso-CTS: what the experts share and what is each one's own, all alike in size."""

import math
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Need
from mergegrid.methods.options import Option
from mergegrid.methods.singular import (
    NEGLIGIBLE,
    Triplets,
    decompose,
    decompose_flops,
    mean_value,
    orthogonalized,
    polar_flops,
    standing,
)
from mergegrid.methods.symmetric import eigenvector_bytes
from mergegrid.methods.tall import Tall, side_by_side, stored, summed, without
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
    vectors, experts = standing(task_vectors), len(task_vectors)
    total = summed(vectors)
    common = decompose(total)
    rank = int((common.values > 0).sum())
    specific_rank = task_rank(rank, experts, common_fraction)
    common_rank = rank - experts * specific_rank
    # What is not common makes room for what is each one's own.
    every = common.between(0, rank)
    common = every.between(0, common_rank)
    is_turned = vectors.shape != task_vectors.shape
    parts = [common.left(total)]
    for expert, vector in enumerate(vectors if specific_rank > 0 else ()):
        whole = stored(vector)
        own = rest(whole, total, common, is_turned=is_turned)
        start = common_rank + expert * specific_rank
        mine = every.between(start, start + specific_rank)
        floor = NEGLIGIBLE * whole.norm()
        mine.copy_(decompose(own, count=specific_rank, floor=floor))
        parts.append(mine.left(own))
        del own
    left, mean = side_by_side(parts), mean_value(every.values)
    return orthogonalized(left, mean, every.right, task_vectors)


def rest(vector: Tall, total: Tall, common: Triplets, *, is_turned: bool) -> Tall:
    """Take the common outputs out of a task vector.

    They are spanned by U_c, the left singular vectors of the sum as it is given. If
    matrices are turned to be tall, these are the right ones of what was turned, V_c:

        turned      vector - vector V_c V_c^T
        otherwise   vector - total V_c S_c^-2 V_c^T total^T vector

    Args:
        vector: the task vector, turned like all.
        total: the sum of all task vectors.
        common: its triplets.
        is_turned: whether matrices are turned.

    Returns:
        What is left of the task vector.
    """
    if is_turned:
        return without(vector, vector, common.right @ common.right.mT)
    to_left = common.to_left()
    taken = to_left @ (to_left.mT @ total.cross(vector))
    return without(vector, total, taken)


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
        dimensions and t of each expert: 4 m n^2 + 9 n^3 to decompose the sum; 4 d n^2
        + 11 n^3 for the polar factor of each side d; 3 (2 m n k) for the larger side's
        common vectors, which are formed thrice; 4 n^3 + n^2 + 2 m n^2 to put together.
        For each expert, if t > 0, those of `rest_flops`; 2 m n for its norm; 2 m n^2 +
        9 n^3 + 2 m n t to decompose what is left. M - 1 additions per entry each of the
        five times that the sum is formed, M differences, and the multiply-add of the
        scale.
    """
    small, large = sorted(shape)
    entries = small * large
    specific_rank = task_rank(small, experts, options["common_fraction"])
    common_rank = small - experts * specific_rank
    each = 0
    if specific_rank:
        each = rest_flops(shape, experts, common_rank, specific_rank) + 2 * entries
        each += decompose_flops(large, small, specific_rank)
    whitening = polar_flops(large, small) + polar_flops(small, small)
    common = decompose_flops(large, small) + 3 * 2 * entries * common_rank
    inner = 4 * small**3 + small**2 + 2 * entries * small
    sums = 5 * (experts - 1) * entries
    ends = (experts + 2) * entries
    return common + experts * each + whitening + inner + sums + ends


def rest_flops(
    shape: tuple[int, ...], experts: int, common_rank: int, specific_rank: int
) -> int:
    """Count the operations that `rest` takes each time its result is used.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        common_rank: k, the number of common dimensions.
        specific_rank: t, that of dimensions of the task vector's own.

    Returns:
        With n the smaller and m the larger side: 2 n^2 k for what is taken out, 2 m n^2
        + m n to take it out; 2 n^2 t and 2 m n t + m t for the own dimensions' lengths,
        2 n^2 t and thrice 4 m n t + m t for their left vectors. If d_out is the
        larger side, 2 m n^2 + 2 n^2 k for products with the sum, and M - 1 additions
        per entry for each of the six times that it is formed.
    """
    small, large = sorted(shape)
    entries = small * large
    taking = 2 * small**2 * common_rank + 2 * entries * small + entries
    images = (14 * entries + 4 * small**2 + 4 * large) * specific_rank
    if shape[0] < shape[1]:
        return taking + images
    products = 2 * entries * small + 2 * small**2 * common_rank
    return taking + images + products + 6 * (experts - 1) * entries


def iso_cts_memory(shape: tuple[int, ...], experts: int) -> int:
    """Count the bytes that Iso-CTS takes besides what it is handed.

    Args:
        shape: (d_out, d_in).
        experts: their number M.

    Returns:
        With n the smaller and m the larger side: 8 n^2 for singular vectors, 8 n^2 for
        what is common or one side's polar factor, 8 n^2 for products on the way, 24
        n^2 to decompose; 4 m n for the result.
    """
    del experts
    small = min(shape)
    return 24 * small**2 + eigenvector_bytes(small) + 4 * math.prod(shape)


METHOD = Method(
    name="iso_cts",
    title="Iso-CTS",
    merge=iso_cts,
    version=2,
    source='Marczak et al., "No task left behind: isotropic model merging with common '
    'and task-specific subspaces", ICML 2025, arXiv:2502.04959, sec. 4',
    flops=iso_cts_flops,
    memory=iso_cts_memory,
    needs=frozenset({Need.PRETRAINED}),
    coverage=Coverage.MATRIX,
    scale=1.0,
    sweep=MappingProxyType({"scale": SCALES}),
    whole_tensor=True,
)
