"""KnOTS: task vectors merged entry by entry, in a basis that they share."""

import math
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Coverage, Method, Need
from mergegrid.methods.options import Option
from mergegrid.methods.singular import decompose, decompose_flops
from mergegrid.methods.task_arithmetic import SCALES
from mergegrid.methods.ties import ties
from mergegrid.statistics.trim import kept_entries

SMALLEST = 1e-5
"""Singular value up to which the authors' code leaves a direction out."""


def knots(
    task_vectors: Float[Tensor, "expert d_out d_in"],
    *,
    merge_by: Annotated[
        Literal["ties", "linear"],
        Field(description="how aligned task vectors are merged: by TIES, or the mean"),
    ] = "ties",
    density: Annotated[
        float,
        Field(gt=0, le=1, description="fraction of aligned entries that TIES keeps"),
    ] = 0.2,
) -> Float[Tensor, "d_out d_in"]:
    r"""Merge one matrix's task vectors after aligning them.

    1. Put the task vectors side by side, [d_out, M d_in], and decompose:
       [task_vector_1 ... task_vector_M] = U diag(s) [V_1 ... V_M]^T.
    2. Merge the aligned task vectors diag(s) V_e^T, [rank, d_in], entry by entry.
    3. merged = U (what step 2 gives).

    Weights are [d_out, d_in], as in PyTorch. Side by side along d_in, the experts share
    U, directions of the layer's output: an entry of an aligned task vector says how
    much an input moves the output along one of them, and that is comparable between
    experts whose own low-rank factors are not.

    `linear` takes the mean in step 2; since alignment is linear, this is the mean of
    the task vectors. `ties` trims every aligned task vector to its largest entries
    (exactly floor(density rank d_in), of equal ones the first; the authors rank the
    entries of all layers together), elects signs by mass, plus where entries cancel,
    and takes the mean of what agrees.

    Args:
        task_vectors: expert minus pretrained, for every expert; of adapters, the
            products of their factors.
        merge_by: see above.
        density: see above; without effect on `linear`.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`;
        computed in float64. Singular values up to `SMALLEST` are left out. Where
        singular values are equal, U is arbitrary, and so is what TIES makes of it.

    Source:
        Stoica et al., "Model Merging with SVD to Tie the KnOTS", ICLR 2025,
        arXiv:2410.19735; singular values go with V_e, as in the authors' code.
    """
    vectors = task_vectors.double()
    left, values, _ = decompose(vectors.transpose(0, 1).flatten(1), floor=SMALLEST)
    rank = int((values > 0).sum())
    # U's signs are arbitrary, but where entries cancel, plus depends on them.
    basis = left[:, :rank] * torch.where(left[:, :rank].sum(dim=0) < 0, -1, 1)
    aligned = basis.mT @ vectors
    if merge_by == "ties":
        merged = ties(trim(aligned, density), None, None, zero_sum="plus")
    else:
        merged = aligned.mean(dim=0)
    return (basis @ merged).to(task_vectors.dtype)


def trim(
    aligned: Float64[Tensor, "expert rank d_in"], density: float
) -> Float64[Tensor, "expert rank d_in"]:
    """Keep the largest entries of every aligned task vector.

    Args:
        aligned: aligned task vectors.
        density: the fraction of each one's entries that is kept, taken as the decimal
            it is written as.

    Returns:
        The same with all other entries zero.
    """
    magnitudes = aligned.abs().flatten(1)
    entries = magnitudes.shape[1]
    count = math.floor(Fraction(str(density)) * entries)
    if count == 0:
        return torch.zeros_like(aligned)
    thresholds = magnitudes.kthvalue(entries - count + 1, dim=1).values
    larger = (magnitudes > thresholds[:, None]).sum(dim=1)
    kept = kept_entries(aligned.abs(), thresholds, count - larger)
    return aligned * kept.entries


def knots_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of KnOTS on one matrix, to leading order.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **options: the recipe's options.

    Returns:
        With n the smaller and m the larger of d_out and M d_in, and full rank n:
        4 m n^2 + 9 n^3 to decompose, 2 m n^2 to align, 2 d_out d_in n to go back; per
        entry of n x d_in, M for the mean, or 8M + 1 for TIES: 3M for magnitudes,
        comparisons and masks, M - 1 additions and a sign to elect, 2 for the rule of
        zero sums, 2M to compare signs and mask, 2M - 1 for the mean; per entry of
        d_out x d_in, M differences and the multiply-add of the scale.
    """
    d_out, d_in = shape
    entries, rank = d_out * d_in, min(d_out, experts * d_in)
    aligning = 2 * experts * entries * rank
    each = experts if options.get("merge_by") == "linear" else 8 * experts + 1
    merging = each * rank * d_in + 2 * entries * rank
    decomposing = decompose_flops(d_out, experts * d_in)
    return decomposing + aligning + merging + (experts + 2) * entries


METHOD = Method(
    name="knots",
    title="KnOTS",
    merge=knots,
    version=1,
    source='Stoica et al., "Model merging with SVD to tie the KnOTS", ICLR 2025, '
    "arXiv:2410.19735",
    flops=knots_flops,
    needs=frozenset({Need.PRETRAINED}),
    coverage=Coverage.MATRIX,
    scale=0.6,
    sweep=MappingProxyType({"scale": SCALES}),
    whole_tensor=True,
)
