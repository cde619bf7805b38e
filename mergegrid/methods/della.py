"""DELLA: drop small entries more often than large ones, elect a sign, merge."""

import math
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float, Float32, Float64, Int64
from pydantic import Field
from torch import Tensor

from mergegrid.errors import InputError
from mergegrid.methods.dare import Rate, restore_norm_
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import PER_EXPERT, each
from mergegrid.methods.survey import Survey
from mergegrid.methods.task_arithmetic import SCALES, task_arithmetic
from mergegrid.methods.ties import (
    Aggregate,
    ZeroSum,
    aggregate_flops,
    sign_balance,
    ties,
)
from mergegrid.methods.weighting import TaskVectorWeights

Election: TypeAlias = Annotated[
    Literal["mass", "none"],
    Field(description="whether entries against the larger mass are left out"),
]


def magnitude_prune(
    task_vectors: Float[Tensor, "expert *shape"],
    uniform: Float[Tensor, "expert *shape"],
    *,
    drop_rate: Annotated[
        Rate | tuple[Rate, ...],
        PER_EXPERT,
        Field(
            description="mean probability of dropping an entry; one, or one for each "
            "expert"
        ),
    ] = 0.3,
    window: Annotated[
        Rate | tuple[Rate, ...],
        PER_EXPERT,
        Field(
            description="by how much likelier a row's smallest entry is dropped than "
            "its largest; one, or one for each expert"
        ),
    ] = 0.14,
    rescale: Annotated[
        Literal["inverse", "norm", "none"],
        Field(
            description="how the loss is made up for: by the inverse of each entry's "
            "probability of being kept, to the norm, or not"
        ),
    ] = "inverse",
) -> Float[Tensor, "expert *shape"]:
    """Drop entries of one parameter's task vectors at random, small ones more often.

    MAGPRUNE. In a row of n entries (along the last axis), the entry that is larger in
    magnitude than r others is dropped with probability

        p_r = p + w / 2 - w r / (n - 1),

    and divided by 1 - p_r if it is kept, which keeps the expectation. Of equal
    magnitudes the first counts as the smallest. A parameter with one axis is one row;
    an entry that is alone in its row is dropped with probability p. With w = 0 this is
    DARE. `norm` rescales each task vector to the L1 norm that it had before instead,
    tensor by tensor, as mergekit does; `none` leaves entries as they are.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        uniform: independent draws from [0, 1); an entry is dropped below its p_r, so
            that a higher rate drops a superset.
        drop_rate: p, the mean probability in each row; of all experts, or of each in
            their order.
        window: w, the span of the probabilities (twice mergekit's epsilon), likewise.
        rescale: see above.

    Returns:
        The thinned task vectors, in their precision.

    Raises:
        InputError: if a probability would be negative, or 1 or more, or there are not
            as many numbers as experts.

    Source:
        Deep, Bhardwaj and Poria, "DELLA-Merging", 2024, arXiv:2406.11617.
    """
    rates = each("drop_rate", drop_rate, len(task_vectors))
    windows = each("window", window, len(task_vectors))
    for rate, width in zip(rates, windows, strict=True):
        if not width / 2 <= rate < 1 - width / 2:
            raise InputError(
                f"della: drop_rate = {rate} and window = {width} do not fit: the drop "
                "rate plus and minus half the window must be in [0, 1)."
            )
    kept = torch.empty_like(task_vectors)
    # One expert after the other, since ranks take more memory than what they are of.
    for expert, (rate, width) in enumerate(zip(rates, windows, strict=True)):
        kept[expert] = prune(
            task_vectors[expert],
            uniform[expert],
            drop_rate=rate,
            window=width,
            keeps_expectation=rescale == "inverse",
        )
    return restore_norm_(kept, task_vectors) if rescale == "norm" else kept


def prune(
    task_vector: Float[Tensor, "*shape"],
    uniform: Float[Tensor, "*shape"],
    *,
    drop_rate: float,
    window: float,
    keeps_expectation: bool,
) -> Float[Tensor, "*shape"]:
    """Drop entries of one expert's task vector, see `magnitude_prune`.

    Args:
        task_vector: expert minus pretrained, one parameter.
        uniform: see `magnitude_prune`.
        drop_rate: see `magnitude_prune`.
        window: see `magnitude_prune`.
        keeps_expectation: whether what is kept is divided by its probability.

    Returns:
        The thinned task vector.
    """
    rows = task_vector if task_vector.dim() else task_vector[None]
    order = ascending(rows.abs())
    length = rows.shape[-1]
    # A float64 table for the ranks, so that no probability is rounded twice.
    middle = 0.0 if length == 1 else 0.5
    centred = torch.linspace(
        -middle, middle, length, dtype=torch.float64, device=rows.device
    )

    def by_rank(table: Float64[Tensor, " n"]) -> Float[Tensor, "*shape"]:
        of_rows = table.to(rows.dtype).expand_as(rows)
        spread = torch.empty_like(rows).scatter_(-1, order, of_rows)
        return spread.view_as(task_vector)

    # The answers as numbers, see `thin`.
    kept = by_rank(drop_rate - window * centred)
    torch.ge(uniform, kept, out=kept).mul_(task_vector)
    if keeps_expectation:
        kept.div_(by_rank(1 - drop_rate + window * centred))
    return kept


def ascending(magnitudes: Float32[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """Put the entries of every row in ascending order.

    Args:
        magnitudes: numbers that are not negative, in rows along the last axis.

    Returns:
        Indices along the last axis: of the smallest entry, and so on; of equal ones,
        the first comes first.
    """
    # The bits of magnitudes are ordered as these are. With the index below them, they
    # sort as integers, for which processors have vector instructions that NumPy uses.
    indices = torch.arange(magnitudes.shape[-1], device=magnitudes.device)
    keys = magnitudes.view(torch.int32).long().bitwise_left_shift_(32)
    keys.bitwise_or_(indices)
    if keys.device.type == "cpu":
        keys.numpy().sort(axis=-1)
    else:
        keys = keys.sort(dim=-1).values
    return keys.bitwise_and_((1 << 32) - 1)


def della(
    task_vectors: Float[Tensor, "expert *shape"],
    balance: Float64[Tensor, ""] | None,
    *,
    election: Election = "mass",
    zero_sum: ZeroSum = "majority",
    aggregate: Aggregate = "mean",
    weights: TaskVectorWeights = None,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's thinned task vectors where they agree, or all of them.

    Args:
        task_vectors: expert minus pretrained, thinned, for every expert.
        balance: number of positive minus negative signs elected in the model.
        election: `mass` elects signs and takes the mean of what agrees, as TIES does
            without trimming; `none` adds everything up (mergekit's della_linear).
        zero_sum: see `ties`; for `mass` alone.
        aggregate: see `ties`; for `mass` alone.
        weights: factors on the task vectors, see `ties`.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`.

    Source:
        Deep, Bhardwaj and Poria, "DELLA-Merging", 2024, arXiv:2406.11617.
    """
    if election == "none":
        return task_arithmetic(task_vectors, weights=weights)
    return ties(
        task_vectors,
        None,
        balance,
        zero_sum=zero_sum,
        aggregate=aggregate,
        weights=weights,
    )


def untrimmed_balance(
    task_vectors: Float[Tensor, "expert *shape"], *, weights: TaskVectorWeights = None
) -> Float64[Tensor, ""]:
    """Count one parameter's elected signs where nothing is trimmed.

    Args:
        task_vectors: expert minus pretrained, sparsified, for every expert.
        weights: see `ties`.

    Returns:
        The number of positive minus that of negative signs.
    """
    return sign_balance(task_vectors, weights=weights)


UNTRIMMED_BALANCE = Survey(
    untrimmed_balance,
    only_if=frozenset({("election", "mass")}),
    per_tensor_if=frozenset({("zero_sum", "tensor_majority")}),
)
"""The survey of methods that elect signs without trimming, or not at all."""


def fuse_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of merging sparse task vectors.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Per entry: M differences and the multiply-add of the scale; without election,
        M - 1 additions; with it, M - 1 additions and a sign (twice, since the survey
        elects too), 2 for the rule of zero sums, 2M to compare signs and mask, 2M - 1
        for sum, count and division (M - 1 for a sum; 2M for a maximum).
    """
    merging = experts - 1
    if options.get("election") == "mass":
        merging = 2 * experts + 2 + 2 * experts + aggregate_flops(experts, options)
    return (experts + merging + 2) * math.prod(shape)


def della_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of DELLA on one parameter.

    Ranking the entries is not arithmetic and not counted.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Those of `fuse_flops`, and for every entry of every expert its magnitude, a
        draw, a comparison, the masking and the division by 1 - p_r. Rescaling to the
        norm takes five operations instead of the division, `none` none.
    """
    rescaling = {"norm": 5, "none": 0}.get(str(options.get("rescale")), 1)
    dropping = (4 + rescaling) * experts * math.prod(shape)
    return dropping + fuse_flops(shape, experts, **options)


METHOD = Method(
    name="della",
    title="DELLA",
    merge=della,
    version=2,
    source='Deep, Bhardwaj and Poria, "DELLA-Merging: reducing interference in model '
    'merging through magnitude-based sampling", 2024, arXiv:2406.11617',
    flops=della_flops,
    needs=frozenset({Need.PRETRAINED}),
    sparsify=magnitude_prune,
    by_rows=True,
    whole_tensor_if=frozenset({("rescale", "norm")}),
    scale=1.1,
    scope="model",
    sweep=MappingProxyType(
        {"drop_rate": (0.3, 0.5, 0.7, 0.9), "scale": (*SCALES, 1.1)}
    ),
    surveys=MappingProxyType({"balance": UNTRIMMED_BALANCE}),
)
