"""TSV-M: the leading singular vectors of every task vector, made orthogonal."""

import math
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Need
from mergegrid.methods.options import Option
from mergegrid.methods.singular import (
    Triplets,
    decompose,
    decompose_flops,
    orthogonalized,
    polar_flops,
    standing,
)
from mergegrid.methods.symmetric import eigenvector_bytes
from mergegrid.methods.tall import Tall, side_by_side, stored

SCALES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""A sixth of the papers' sweep, 0.1 to 3.0 in steps of 0.1."""


def tsv_m(
    task_vectors: Float[Tensor, "expert d_out d_in"],
) -> Float[Tensor, "d_out d_in"]:
    r"""Merge one matrix's task vectors with as little interference as can be.

    Of every task vector U_e S_e V_e^T, the largest r = floor(min(d_out, d_in) / M)
    triplets are kept, at least one, so that those of all M experts fit side by side
    into the matrix. With U = [U_1 ... U_M], V and S alike,

        merged = polar(U) S polar(V)^T,

    where polar(U) is the matrix with orthonormal columns that is nearest to U. If the
    experts' singular vectors are orthogonal already, this is the sum of what was kept.
    M equal experts are not returned, only the largest r triplets of theirs.

    Singular vectors of values that count as zero (see `mergegrid.methods.singular`)
    have no part in U and V, and what is linearly dependent counts once. The authors'
    code takes arbitrary vectors in their places, which push aside those of other
    experts; and with more experts than min(d_out, d_in), it keeps nothing.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`;
        computed in float64.

    Source:
        Gargiulo et al., "Task Singular Vectors: Reducing Task Interference in Model
        Merging", CVPR 2025, arXiv:2412.00081.
    """
    experts, d_out, d_in = task_vectors.shape
    if experts == 1:  # everything is kept, and orthogonal
        return task_vectors[0].clone()
    rank = kept_rank(d_out, d_in, experts)
    columns = min(d_out, d_in), experts * rank
    together = Triplets.empty(*columns, like=task_vectors)
    parts: list[Tall] = []
    for expert, vector in enumerate(standing(task_vectors)):
        mine = together.between(expert * rank, (expert + 1) * rank)
        mine.copy_(decompose(stored(vector), count=rank))
        parts.append(mine.left(stored(vector)))
    left = side_by_side(parts)
    return orthogonalized(left, together.values, together.right, task_vectors)


def kept_rank(d_out: int, d_in: int, experts: int) -> int:
    """Tell how many singular triplets of each expert are kept.

    Args:
        d_out: number of rows.
        d_in: number of columns.
        experts: number of experts.

    Returns:
        An equal share of the rank, but at least one if the matrix has any entries.
    """
    rank = min(d_out, d_in)
    return min(max(1, rank // experts), rank)


def tsv_m_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of TSV-M on one matrix, to leading order.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        With n the smaller and m the larger side, r triplets kept of each expert and
        c = M r: M (2 m n^2 + 9 n^3 + 2 m n r) for the decompositions; for the polar
        factor of each side d, 4 d c^2 + 9 c^3 + 2 c^3; 6 m n c for the larger side's
        vectors, which are formed thrice; 2 c^3 + c^2 + 2 n c^2 + 2 m n c to put
        together; M m n differences and the multiply-add of the scale. For a single
        expert, the last two alone.
    """
    small, large = sorted(shape)
    entries = small * large
    ends = (experts + 2) * entries
    if experts == 1:
        return ends
    rank = kept_rank(small, large, experts)
    columns = experts * rank
    decomposing = experts * decompose_flops(large, small, rank)
    whitening = polar_flops(large, columns) + polar_flops(small, columns)
    forming = 3 * 2 * entries * columns
    inner = 2 * columns**3 + columns**2 + 2 * small * columns**2
    return decomposing + whitening + forming + inner + 2 * entries * columns + ends


def tsv_m_memory(shape: tuple[int, ...], experts: int) -> int:
    """Count the bytes that TSV-M takes besides what it is handed.

    Args:
        shape: (d_out, d_in).
        experts: their number M.

    Returns:
        With n the smaller side and c the number of triplets that are kept of all
        experts: 8 n c for their vectors, and besides 24 n^2 to decompose, or 32 c^2
        for both sides' polar factors; 4 m n for the result.
    """
    small = min(shape)
    columns = experts * kept_rank(shape[0], shape[1], experts)
    working = max(eigenvector_bytes(small), 8 * columns**2 + eigenvector_bytes(columns))
    return 8 * small * columns + working + 4 * math.prod(shape)


METHOD = Method(
    name="tsv_m",
    title="TSV-M",
    merge=tsv_m,
    version=2,
    source='Gargiulo et al., "Task singular vectors: reducing task interference in '
    'model merging", CVPR 2025, arXiv:2412.00081',
    flops=tsv_m_flops,
    memory=tsv_m_memory,
    needs=frozenset({Need.PRETRAINED}),
    coverage=Coverage.MATRIX,
    scale=1.0,
    sweep=MappingProxyType({"scale": SCALES}),
    whole_tensor=True,
)
