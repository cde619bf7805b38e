"""Iso-C: the sum of the task vectors, with all singular values alike."""

import math
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Need
from mergegrid.methods.options import Option
from mergegrid.methods.singular import (
    assembled,
    decompose,
    decompose_flops,
    mean_value,
    standing,
)
from mergegrid.methods.symmetric import eigenvector_bytes
from mergegrid.methods.tall import summed
from mergegrid.methods.tsv_m import SCALES


def iso_c(
    task_vectors: Float[Tensor, "expert d_out d_in"],
) -> Float[Tensor, "d_out d_in"]:
    r"""Merge one matrix's task vectors into their sum, made isotropic.

    With sum_e task_vector_e = U diag(s) V^T,

        merged = mean(s) U V^T,

    over the R triplets whose singular values do not count as zero (see
    `mergegrid.methods.singular`). The paper takes all of min(d_out, d_in), which is the
    same for matrices of full rank. For adapters of low rank it is not: directions that
    nothing was trained in would get the same weight as all others, and since their
    vectors are arbitrary, rounding errors would decide what is merged.

    The sum of the singular values stays what it was. Neither a single expert nor equal
    ones are returned.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`;
        computed in float64.

    Source:
        Marczak et al., "No Task Left Behind: Isotropic Model Merging with Common and
        Task-Specific Subspaces", ICML 2025, arXiv:2502.04959, sec. 4.
    """
    total = summed(standing(task_vectors))
    triplets = decompose(total)
    inner = triplets.to_left() @ triplets.right.mT
    inner *= mean_value(triplets.values)
    del triplets
    return assembled(total, inner, task_vectors)


def iso_c_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of Iso-C on one matrix, to leading order.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        With n the smaller and m the larger side: 4 m n^2 + 9 n^3 to decompose, 2 n^3
        and 2 m n^2 to put together; M - 1 additions per entry for each of the three
        times that the sum is formed, M differences, and the multiply-add of the scale.
    """
    d_out, d_in = shape
    entries, small = d_out * d_in, min(shape)
    products = 2 * small**3 + 2 * entries * small
    sums = 3 * (experts - 1) * entries
    decomposing = decompose_flops(max(shape), small)
    return decomposing + products + sums + (experts + 2) * entries


def iso_c_memory(shape: tuple[int, ...], experts: int) -> int:
    """Count the bytes that Iso-C takes besides what it is handed.

    Args:
        shape: (d_out, d_in).
        experts: their number M.

    Returns:
        With n the smaller and m the larger side: 24 n^2 to decompose, and 4 m n for the
        result.
    """
    del experts
    return eigenvector_bytes(min(shape)) + 4 * math.prod(shape)


METHOD = Method(
    name="iso_c",
    title="Iso-C",
    merge=iso_c,
    version=2,
    source='Marczak et al., "No task left behind: isotropic model merging with common '
    'and task-specific subspaces", ICML 2025, arXiv:2502.04959, sec. 4',
    flops=iso_c_flops,
    memory=iso_c_memory,
    needs=frozenset({Need.PRETRAINED}),
    coverage=Coverage.MATRIX,
    scale=1.0,
    sweep=MappingProxyType({"scale": SCALES}),
    whole_tensor=True,
)
