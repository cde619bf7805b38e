"""WUDI: RegMean without data, the task vectors standing in for the inputs."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Fallback, Need
from mergegrid.methods.options import Option
from mergegrid.methods.regmean import solve_
from mergegrid.methods.symmetric import eigenvector_bytes
from mergegrid.methods.tall import stored, summed


def wudi(
    task_vectors: Float[Tensor, "expert d_out d_in"],
) -> Float[Tensor, "d_out d_in"]:
    r"""Merge one matrix's task vectors so that they disturb each other least.

    The rows of a linear layer's task vector are sums of inputs that the expert was
    trained on, so that outside their span the expert saw nothing. The merged task
    vector T minimizes

        sum_e |(T - task_vector_e) task_vector_e^T|^2 / |task_vector_e|^2.

    It is RegMean's solution on task vectors, with G_e = task_vector_e^T task_vector_e
    / |task_vector_e|^2 for the Gram matrices: from the sum T_0 of the task vectors,

        T = T_0 + (sum_e (task_vector_e - T_0) G_e) (sum_e G_e)^+.

    Directions in which no task vector has anything to speak of keep T_0; what counts as
    such is decided by `mergegrid.methods.regmean.solve_`. Equal experts are returned;
    experts whose rows are orthogonal to each other's are added up.

    This is not what the paper reports. It starts at T_0 too, but stops after 300 steps
    of Adam at 1e-5, far from the minimum, and merges attention and MLP matrices only;
    published results differ from this closed form.

    Args:
        task_vectors: expert minus pretrained, for every expert, as [d_out, d_in].

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`;
        computed in float64. A task vector of zeros counts for nothing.

    Source:
        Cheng et al., "Whoever Started the Interference Should End It: Guiding Data-Free
        Model Merging via Task Vectors", ICML 2025, arXiv:2503.08099.
    """
    d_out, d_in = task_vectors.shape[1:]
    starts = summed(task_vectors)
    start = starts.times(None)
    matrix = task_vectors.new_zeros(d_in, d_in, dtype=torch.float64)
    target = task_vectors.new_zeros(d_out, d_in, dtype=torch.float64)
    # One expert at a time: no more than one Gram matrix is held besides their sum.
    for vector in task_vectors:
        gram = stored(vector).gram()
        square = gram.trace()
        gram /= square.where(square > 0, 1)
        matrix += gram
        for rows in starts.slices():
            target[rows] += (vector[rows] - start(rows)) @ gram
        del gram
    solve_(matrix, target)
    merged = torch.empty_like(task_vectors[0])
    for rows in starts.slices():
        merged[rows] = start(rows).add_(target[rows])
    return merged


def wudi_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of WUDI on one matrix.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        With d = d_in and k = d_out: 4M d^2 k for Gram matrices and products with them,
        2M d^2 to divide and add them up; d^3 / 3 to factorize, 2 d^2 k to solve; 3M dk
        for task vectors, differences and sum; (M - 1) dk for the start, for each expert
        and at the end; dk to add it, and the multiply-add of the scale. Singular
        systems cost an eigendecomposition more.
    """
    d_out, d_in = shape
    entries = d_out * d_in
    products = 4 * experts * entries * d_in + 2 * experts * d_in**2
    solving = d_in**3 // 3 + 2 * entries * d_in
    starts = (experts + 1) * (experts - 1) * entries
    return products + solving + starts + (3 * experts + 3) * entries


def wudi_memory(shape: tuple[int, ...], experts: int) -> int:
    """Count the bytes that WUDI takes besides what it is handed.

    Args:
        shape: (d_out, d_in).
        experts: their number M.

    Returns:
        With d = d_in: 24 d^2 to solve a singular system (16 d^2 for a regular one),
        8 d d_out in float64, and 4 d d_out for the result.
    """
    del experts
    return eigenvector_bytes(shape[1]) + 12 * math.prod(shape)


METHOD = Method(
    name="wudi",
    title="WUDI (closed form)",
    merge=wudi,
    version=2,
    source='Cheng et al., "Whoever started the interference should end it: guiding '
    'data-free model merging via task vectors", ICML 2025, arXiv:2503.08099',
    flops=wudi_flops,
    memory=wudi_memory,
    needs=frozenset({Need.PRETRAINED}),
    coverage=Coverage.MATRIX,
    fallback=Fallback.PRETRAINED,
    scale=1.0,
    whole_tensor=True,
)
