"""KnOTS: task vectors merged entry by entry, in a basis that they share."""

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Need
from mergegrid.methods.options import Option
from mergegrid.methods.singular import (
    decompose,
    decompose_flops,
    found_in,
    leading_eigenvectors_,
)
from mergegrid.methods.slices import slices
from mergegrid.methods.symmetric import eigenvector_bytes
from mergegrid.methods.tall import on_top, side_by_side, stored
from mergegrid.methods.task_arithmetic import SCALES
from mergegrid.methods.ties import ties
from mergegrid.statistics.trim import kept_entries, thresholds_of

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
    aligned, restore = align(task_vectors)
    if merge_by == "linear":
        return restore(aligned.mean(dim=0))
    trim_(aligned, density)
    experts, rank, d_in = aligned.shape
    for rows in slices(rank, experts * d_in):
        aligned[0, rows] = ties(aligned[:, rows], None, None, zero_sum="plus")
    return restore(aligned[0])


Restore: TypeAlias = Callable[[Tensor], Tensor]
"""Takes what aligned task vectors were merged into to the merged task vector."""


def align(
    task_vectors: Float[Tensor, "expert d_out d_in"],
) -> tuple[Float[Tensor, "expert rank d_in"], Restore]:
    """Express task vectors in the basis that they share.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        The aligned task vectors diag(s) V_e^T = U^T task_vector_e, in the precision of
        `task_vectors`, and what multiplies with U.
    """
    experts, d_out, d_in = task_vectors.shape
    if d_out <= experts * d_in:
        return _align_by_outputs(task_vectors)
    return _align_by_inputs(task_vectors)


def _align_by_outputs(task_vectors: Tensor) -> tuple[Tensor, Restore]:
    turned = task_vectors.mT
    found = decompose(on_top(turned), floor=SMALLEST)
    rank = int((found.values > 0).sum())
    basis = found.right[:, :rank]
    basis *= _signs(basis.sum(dim=0))
    aligned = task_vectors.new_empty(len(turned), rank, turned.shape[1])
    for into, vector in zip(aligned, turned, strict=True):
        stored(vector).write(into.mT, basis)

    def restore(merged: Tensor) -> Tensor:
        product = torch.empty_like(task_vectors[0])
        stored(merged.mT).write(product.mT, basis.mT)
        return product

    return aligned, restore


def _align_by_inputs(task_vectors: Tensor) -> tuple[Tensor, Restore]:
    # U is task vectors times this, and too large to be held.
    beside = side_by_side([stored(vector) for vector in task_vectors])
    right = leading_eigenvectors_(beside.gram())
    found = found_in(right, beside.lengths(right), floor=SMALLEST)
    rank = int((found.values > 0).sum())
    to_left = found.to_left()[:, :rank]
    to_left *= _signs(beside.sums() @ to_left)
    del right, found
    experts, _, d_in = task_vectors.shape
    aligned = task_vectors.new_empty(experts, rank, d_in)
    # Not from V, which has rounding errors where a task vector is zero.
    for into, vector in zip(aligned, task_vectors, strict=True):
        stored(stored(vector).cross(beside)).write(into.mT, to_left)

    def restore(merged: Tensor) -> Tensor:
        product = torch.empty_like(task_vectors[0])
        beside.write(product, to_left @ merged.double())
        return product

    return aligned, restore


def _signs(sums: Float64[Tensor, " triplet"]) -> Float64[Tensor, " triplet"]:
    # U's signs are arbitrary, but where entries cancel, plus depends on them.
    return torch.where(sums < 0, -1.0, 1.0).double()


def trim_(aligned: Float[Tensor, "expert rank d_in"], density: float) -> None:
    """Set all but the largest entries of every aligned task vector to zero.

    Args:
        aligned: aligned task vectors, compared in float32; overwritten.
        density: the fraction of each one's entries that is kept, taken as the decimal
            it is written as.
    """
    experts, rank, d_in = aligned.shape
    rows_at_once = list(slices(rank, experts * d_in))

    def magnitudes() -> Iterator[tuple[str, Tensor]]:
        for rows in rows_at_once:
            yield "", aligned[:, rows].abs().float().flatten(1)

    found = thresholds_of(magnitudes, [[density]] * experts)
    kept = [of_expert[density] for of_expert in found]
    thresholds = torch.tensor([trim.threshold for trim in kept], dtype=torch.float32)
    thresholds = thresholds.to(aligned.device)
    ties_left = torch.tensor([trim.ties_kept.get("", 0) for trim in kept])
    ties_left = ties_left.to(aligned.device)
    for rows in rows_at_once:
        entries = aligned[:, rows]
        is_kept = kept_entries(entries.abs().float(), thresholds, ties_left)
        assert is_kept.ties_left is not None, "ties are counted"
        entries *= is_kept.entries
        ties_left = is_kept.ties_left


def knots_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of KnOTS on one matrix, to leading order.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **options: the recipe's options.

    Returns:
        With n the smaller and m the larger of d_out and M d_in, and full rank n:
        4 m n^2 + 9 n^3 to decompose, 2 n^2 M d_in to align, and if M d_in is the
        smaller, 2 m n^2 before; to go back 2 d_out d_in n, and if M d_in is the
        smaller, 2 n^2 d_in, 2 n^2 and M sums before; per entry of
        n x d_in, M for the mean, or 8M + 1 for TIES: 3M for magnitudes, comparisons and
        masks, M - 1 additions and a sign to elect, 2 for the rule of zero sums, 2M to
        compare signs and mask, 2M - 1 for the mean; per entry of d_out x d_in, M
        differences and the multiply-add of the scale.
    """
    d_out, d_in = shape
    beside = experts * d_in
    entries, rank = d_out * d_in, min(d_out, beside)
    aligning = 2 * rank**2 * beside
    each = experts if options.get("merge_by") == "linear" else 8 * experts + 1
    merging = each * rank * d_in + 2 * entries * rank
    if beside < d_out:
        merging += 2 * rank**2 * d_in + 2 * rank**2 + experts * entries
        aligning += 2 * d_out * rank**2
    decomposing = decompose_flops(max(d_out, beside), rank)
    return decomposing + aligning + merging + (experts + 2) * entries


def knots_memory(shape: tuple[int, ...], experts: int) -> int:
    """Count the bytes that KnOTS takes besides what it is handed.

    Args:
        shape: (d_out, d_in).
        experts: their number M.

    Returns:
        With n the smaller of d_out and M d_in: 24 n^2 to decompose, or 8 n^2 for the
        basis, 4 M n d_in for the aligned task vectors and 4 d_out d_in for the result;
        if M d_in is the smaller, another 16 n d_in.
    """
    d_out, d_in = shape
    small = min(d_out, experts * d_in)
    aligned = 8 * small**2 + 4 * experts * small * d_in + 4 * d_out * d_in
    if small < d_out:
        aligned += 16 * small * d_in
    return max(eigenvector_bytes(small), aligned)


METHOD = Method(
    name="knots",
    title="KnOTS",
    merge=knots,
    version=2,
    source='Stoica et al., "Model merging with SVD to tie the KnOTS", ICLR 2025, '
    "arXiv:2410.19735",
    flops=knots_flops,
    memory=knots_memory,
    needs=frozenset({Need.PRETRAINED}),
    coverage=Coverage.MATRIX,
    scale=0.6,
    sweep=MappingProxyType({"scale": SCALES}),
    whole_tensor=True,
)
