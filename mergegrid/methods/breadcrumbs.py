"""Model Breadcrumbs: task arithmetic on entries that are neither large nor small."""

import math
from collections.abc import Callable
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from jaxtyping import Bool, Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.della import UNTRIMMED_BALANCE, Election, della, fuse_flops
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import PER_EXPERT, each
from mergegrid.methods.task_arithmetic import SCALES
from mergegrid.methods.ties import Aggregate, ZeroSum
from mergegrid.methods.weighting import TaskVectorWeights
from mergegrid.methods.windows import Window, mark_rows, mark_tensor

Kept: TypeAlias = Annotated[float, Field(gt=0, le=1)]
"""A fraction of something that is kept."""

LeftOut: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A fraction of something that is left out."""


def mark_middle(
    task_vectors: Callable[[int, int], Float[Tensor, "expert entry"]],
    shape: tuple[int, ...],
    *,
    keep: Annotated[
        Kept | tuple[Kept, ...],
        PER_EXPERT,
        Field(
            description="fraction of entries that is kept; one, or one for each expert"
        ),
    ] = 0.1,
    outliers: Annotated[
        LeftOut | tuple[LeftOut, ...],
        PER_EXPERT,
        Field(
            description="fraction of entries, the largest, left out as far as what is "
            "kept leaves room; one, or one for each expert"
        ),
    ] = 0.01,
    extent: Annotated[
        Literal["row", "tensor"],
        Field(description="what fractions are of: each row, or the whole tensor"),
    ] = "row",
) -> Bool[Tensor, "expert entry"]:
    """Tell which entries of one parameter are neither among the largest nor too small.

    Of the n entries of a row (along the last axis), in order of decreasing magnitude,
    the first floor(n * outliers) are left out, the next floor(n * keep) are kept, at
    least one, and the rest is left out. If there is no room for both, outliers give
    way. Of equal magnitudes the first counts as the largest. A fraction counts as the
    decimal it is written as: 0.29 of 100 are 29. A parameter without axes is kept.

    Args:
        task_vectors: gives a stretch of expert minus pretrained, for every expert, from
            one entry to before another.
        shape: the parameter's.
        keep: see above; the paper's beta, of all experts, or of each in their order.
        outliers: see above; the paper's gamma, likewise.
        extent: see above; the paper's text has layers, the authors' code rows.

    Returns:
        Whether each entry is kept.

    Raises:
        InputError: if there are not as many fractions as experts.

    Source:
        Davari and Belilovsky, "Model Breadcrumbs", ECCV 2024, arXiv:2312.06795,
        and the authors' code, which keeps nothing where floor(n * keep) is zero.
    """
    entries = math.prod(shape)
    length = shape[-1] if extent == "row" and shape else entries
    experts = len(task_vectors(0, 0))
    windows: list[Window] = []
    for kept, gone in zip(
        each("keep", keep, experts), each("outliers", outliers, experts), strict=True
    ):
        count = max(math.floor(Fraction(str(kept)) * length), 1)
        first = min(math.floor(Fraction(str(gone)) * length), length - count)
        windows.append(Window(first, first + count))
    if not entries:
        return task_vectors(0, 0) > 0
    if extent == "row":
        return mark_rows(task_vectors, entries, length, windows)
    return mark_tensor(task_vectors, entries, windows)


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
    version=2,
    source='Davari and Belilovsky, "Model Breadcrumbs: scaling multi-task model '
    'merging with sparse masks", ECCV 2024, arXiv:2312.06795',
    flops=breadcrumbs_flops,
    needs=frozenset({Need.PRETRAINED}),
    mark=mark_middle,
    scale=1.0,
    scope="model",
    sweep=MappingProxyType({"keep": (0.1, 0.2, 0.4), "scale": SCALES}),
    surveys=MappingProxyType({"balance": UNTRIMMED_BALANCE}),
)
