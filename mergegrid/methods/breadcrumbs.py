"""Model Breadcrumbs: task arithmetic on entries that are neither large nor small."""

import math
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.della import UNTRIMMED_BALANCE, Election, della, fuse_flops
from mergegrid.methods.method import Method, Need
from mergegrid.methods.options import Option
from mergegrid.methods.task_arithmetic import SCALES
from mergegrid.methods.ties import Aggregate, ZeroSum
from mergegrid.methods.weighting import TaskVectorWeights


def mask_tails(
    task_vectors: Float[Tensor, "expert *shape"],
    *,
    keep: Annotated[
        float, Field(gt=0, le=1, description="fraction of entries that is kept")
    ] = 0.1,
    outliers: Annotated[
        float,
        Field(ge=0, lt=1, description="fraction of entries, the largest, left out"),
    ] = 0.01,
    extent: Annotated[
        Literal["row", "tensor"],
        Field(description="what fractions are of: each row, or the whole tensor"),
    ] = "row",
) -> Float[Tensor, "expert *shape"]:
    """Set the largest and the smallest entries of one parameter to zero.

    Of the n entries of a row (along the last axis), in order of decreasing magnitude,
    the first floor(n * outliers) are left out, the next floor(n * keep) are kept, at
    least one, and the rest is left out. Of equal magnitudes the first counts as the
    largest. A fraction counts as the decimal it is written as: 0.29 of 100 are 29.
    A parameter without axes is kept.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        keep: see above; the paper's beta.
        outliers: see above; the paper's gamma.
        extent: see above; the paper's text has layers, the authors' code rows.

    Returns:
        The masked task vectors, in their precision.

    Source:
        Davari and Belilovsky, "Model Breadcrumbs", ECCV 2024, arXiv:2312.06795,
        and the authors' code, which keeps nothing where floor(n * keep) is zero.
    """
    is_row = extent == "row" and task_vectors.dim() > 1
    rows = task_vectors if is_row else task_vectors.reshape(len(task_vectors), -1)
    length = rows.shape[-1]
    first = math.floor(Fraction(str(outliers)) * length)
    count = max(math.floor(Fraction(str(keep)) * length), 1)
    order = rows.abs().sort(dim=-1, descending=True, stable=True).indices
    is_kept = torch.zeros_like(rows, dtype=torch.bool)
    is_kept.scatter_(-1, order[..., first : first + count], value=True)
    return task_vectors.where(is_kept.view_as(task_vectors), 0)


def breadcrumbs(
    task_vectors: Float[Tensor, "expert *shape"],
    balance: Float64[Tensor, ""] | None,
    *,
    election: Election = "none",
    zero_sum: ZeroSum = "majority",
    aggregate: Aggregate = "mean",
    weights: TaskVectorWeights = None,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's masked task vectors into their sum.

    Args:
        task_vectors: expert minus pretrained, masked, for every expert.
        balance: number of positive minus negative signs elected in the model.
        election: `none` adds everything up, as task arithmetic does; `mass` elects
            signs and takes the mean of what agrees (mergekit's breadcrumbs_ties).
        zero_sum: see `ties`; for `mass` alone.
        aggregate: see `ties`; for `mass` alone.
        weights: factors on the task vectors, see `ties`.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`.

    Source:
        Davari and Belilovsky, "Model Breadcrumbs", ECCV 2024, arXiv:2312.06795.
    """
    return della(
        task_vectors,
        balance,
        election=election,
        zero_sum=zero_sum,
        aggregate=aggregate,
        weights=weights,
    )


def breadcrumbs_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of Model Breadcrumbs on one parameter.

    Putting the entries in order is not arithmetic and not counted.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Those of `fuse_flops`, and for every entry of every expert its magnitude and the
        masking.
    """
    return 2 * experts * math.prod(shape) + fuse_flops(shape, experts, **options)


METHOD = Method(
    name="breadcrumbs",
    title="Breadcrumbs",
    merge=breadcrumbs,
    version=1,
    source='Davari and Belilovsky, "Model Breadcrumbs: scaling multi-task model '
    'merging with sparse masks", ECCV 2024, arXiv:2312.06795',
    flops=breadcrumbs_flops,
    needs=frozenset({Need.PRETRAINED}),
    sparsify=mask_tails,
    whole_tensor=True,
    scale=1.0,
    scope="model",
    sweep=MappingProxyType({"keep": (0.1, 0.2, 0.4), "scale": SCALES}),
    surveys=MappingProxyType({"balance": UNTRIMMED_BALANCE}),
)
