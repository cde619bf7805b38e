"""DARE: task arithmetic on randomly thinned task vectors."""

import math
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import PER_EXPERT, each, factors
from mergegrid.methods.task_arithmetic import (
    BEST_SCALE,
    NO_VALIDATION_SCALE,
    sum_of_task_vectors,
    task_arithmetic,
)

AT_ONCE = 1 << 16
"""How many entries are looked at at a time: as many as the processor's cache holds."""

Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A probability of dropping something, but not everything."""


def thin(
    task_vectors: Float[Tensor, "expert *shape"],
    uniform: Float[Tensor, "expert *shape"],
    *,
    drop_rate: Annotated[
        Rate | tuple[Rate, ...],
        PER_EXPERT,
        Field(
            description="probability of dropping an entry; one, or one for each expert"
        ),
    ] = 0.5,
    rescale: Annotated[
        Literal["inverse", "norm", "none"],
        Field(
            description="how the loss is made up for: by 1 / (1 - drop_rate), to the "
            "norm, or not"
        ),
    ] = "inverse",
) -> Float[Tensor, "expert *shape"]:
    """Drop entries of one parameter's task vectors at random.

    Every entry of every expert is dropped with probability p, by itself, and what is
    left is divided by 1 - p, which keeps the expectation. `norm` rescales each task
    vector to the L1 norm that it had before instead, tensor by tensor, as mergekit
    does; `none` leaves entries as they are.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        uniform: independent draws from [0, 1); an entry is dropped below `drop_rate`,
            so that a higher rate drops a superset.
        drop_rate: p, the fraction dropped (not kept), less than 1; of all experts, or
            of each in their order.
        rescale: see above.

    Returns:
        The thinned task vectors, in their precision.

    Raises:
        InputError: if there are not as many rates as experts.

    Source:
        Yu et al., "Language Models are Super Mario", ICML 2024, arXiv:2311.03099.
    """
    # The answers as numbers: turning booleans into them takes longer than all else.
    kept = torch.empty_like(uniform)
    torch.ge(uniform, factors("drop_rate", drop_rate, uniform), out=kept)
    kept.mul_(task_vectors)
    match rescale:
        case "inverse":
            rates = each("drop_rate", drop_rate, len(kept))
            left = tuple(1 - rate for rate in rates)
            return kept.div_(factors("drop_rate", left, kept))
        case "norm":
            return restore_norm_(kept, task_vectors)
        case "none":
            return kept


def restore_norm_(
    kept: Float[Tensor, "expert *shape"], task_vectors: Float[Tensor, "expert *shape"]
) -> Float[Tensor, "expert *shape"]:
    """Rescale what is left of one parameter's task vectors to the L1 norm they had.

    Args:
        kept: the task vectors, thinned; overwritten.
        task_vectors: the same before.

    Returns:
        The rescaled task vectors; zero where nothing is left.
    """
    before, after = l1_norms(task_vectors), l1_norms(kept)
    rows = kept.view(len(kept), -1)
    rows.mul_((before / after).where(after > 0, 0).to(kept.dtype)[:, None])
    return kept


def l1_norms(
    task_vectors: Float[Tensor, "expert *shape"],
) -> Float64[Tensor, " expert"]:
    """Add up magnitudes, a stretch at a time.

    Args:
        task_vectors: one parameter's task vectors.

    Returns:
        The L1 norm of each.
    """
    norms = task_vectors.new_zeros(len(task_vectors), dtype=torch.float64)
    for stretch in task_vectors.reshape(len(norms), -1).split(AT_ONCE, dim=1):
        norms += stretch.abs().sum(dim=1, dtype=torch.float64)
    return norms


def dare_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of DARE on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Task arithmetic's, and those of `thin_flops`.
    """
    return (2 * experts + 1) * math.prod(shape) + thin_flops(shape, experts, **options)


def thin_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of `thin` on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        For every entry of every expert a draw, a comparison, the masking and the
        division by 1 - p. Rescaling to the norm takes five operations instead of the
        division, `none` none.
    """
    rescaling = {"norm": 5, "none": 0}.get(str(options.get("rescale")), 1)
    return (3 + rescaling) * experts * math.prod(shape)


def dare_paper_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> float:
    """Count as the Realistic Evaluation paper does, Table 3: (6M + 1) dk.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Floating-point operations.
    """
    return float((6 * experts + 1) * math.prod(shape))


METHOD = Method(
    name="dare",
    title="DARE",
    merge=task_arithmetic,
    version=3,
    source='Yu et al., "Language models are Super Mario: absorbing abilities from '
    'homologous models as a free lunch", ICML 2024, arXiv:2311.03099',
    flops=dare_flops,
    paper_flops=dare_paper_flops,
    needs=frozenset({Need.PRETRAINED}),
    sparsify=thin,
    sum_of="task_vectors",
    from_sum=sum_of_task_vectors,
    whole_tensor_if=frozenset({("rescale", "norm")}),
    scale=NO_VALIDATION_SCALE,
    sweep=MappingProxyType(
        {"drop_rate": tuple(tenth / 10 for tenth in range(10)), "scale": ("best",)}
    ),
    best=MappingProxyType({"scale": BEST_SCALE}),
)
