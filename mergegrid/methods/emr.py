"""EMR-merging: elect a unified task vector, mask it and rescale it for every task."""

import math
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.survey import Survey
from mergegrid.methods.ties import signs_by_mass


def emr(
    task_vectors: Float[Tensor, "expert *shape"],
    masses: Float64[Tensor, "2 expert"],
) -> Float[Tensor, "expert *shape"]:
    """Take each task's part of one parameter's unified task vector.

    The model for task t is pretrained + r_t m_t * unified task vector, entry by entry,
    with the unified task vector of `unify`, the masks m_t of `emr_mask` and the factors
    r_t of `rescalers`, which restore the L1 norm of the task vector. No option and no
    data are needed.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        masses: of the model, from `masses`.

    Returns:
        Each task's masked and rescaled part, in the precision of `task_vectors`.

    Source:
        Huang et al., "EMR-Merging: Tuning-Free High-Performance Model Merging", NeurIPS
        2024, arXiv:2405.17461, sec. 3. The authors' code has sums of means over each
        tensor in place of the norms.
    """
    unified = unify(task_vectors)
    each = (-1,) + (1,) * (task_vectors.dim() - 1)
    factors = rescalers(masses).to(task_vectors.dtype).view(each)
    return emr_mask(task_vectors, unified) * unified * factors


def unify(
    task_vectors: Float[Tensor, "expert *shape"],
) -> Float[Tensor, "*shape"]:
    """Elect one parameter's unified task vector.

    Its sign is that of the sum of the task vectors, and negative where that is zero, as
    in the authors' code; its magnitude the largest among those that have this sign.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        The unified task vector, in the precision of `task_vectors`.
    """
    signs = signs_by_mass(task_vectors)
    signs.masked_fill_(signs == 0, -1)
    return signs * (task_vectors * signs).clamp_(min=0).amax(dim=0)


def emr_mask(
    task_vectors: Float[Tensor, "expert *shape"], unified: Float[Tensor, "*shape"]
) -> Bool[Tensor, "expert *shape"]:
    """Select, for every task, the entries whose elected sign is its own.

    Args:
        task_vectors: expert minus pretrained, for every expert.
        unified: from `unify`.

    Returns:
        Whether each entry is selected.
    """
    # By signs, since a product of small numbers can be zero.
    return task_vectors.sign() * unified.sign() > 0


def masses(
    task_vectors: Float[Tensor, "expert *shape"],
) -> Float64[Tensor, "2 expert"]:
    """Measure one parameter's part of what tasks have and what masks leave them.

    Args:
        task_vectors: expert minus pretrained, for every expert.

    Returns:
        L1 norms: of every task vector, and of every masked unified one, in float64.
    """
    unified = unify(task_vectors)
    masked = emr_mask(task_vectors, unified) * unified
    both = torch.stack([task_vectors, masked]).abs_()
    return both.reshape(2, len(task_vectors), -1).sum(dim=2, dtype=torch.float64)


def rescalers(
    masses: Float64[Tensor, "2 expert"],
) -> Float64[Tensor, " expert"]:
    """Compute the factor that gives every task the L1 norm of its task vector.

    It is at most 1 if no two task vectors differ in any sign, and can be any number
    otherwise.

    Args:
        masses: see `masses`.

    Returns:
        The factors; 1 for a task whose mask selects nothing.
    """
    before, after = masses
    return (before / after).where(after > 0, 1)


def emr_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of EMR-merging on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry: M differences. Twice, since the survey does so too: to elect, M - 1
        additions and two for the sign, 2M for products and clamping, M - 1 comparisons
        and a product; to mask, M + 1 signs, M products, M comparisons and M maskings.
        In the survey 2M magnitudes and 2M additions; at last for every expert a product
        and the multiply-add of the scale.
    """
    electing = (experts - 1) + 2 + 2 * experts + (experts - 1) + 1
    masking = 4 * experts + 1
    operations = experts + 2 * (electing + masking) + 4 * experts + 3 * experts
    return operations * math.prod(shape)


METHOD = Method(
    name="emr",
    title="EMR-merging",
    merge=emr,
    version=2,
    source='Huang et al., "EMR-Merging: tuning-free high-performance model merging", '
    "NeurIPS 2024, arXiv:2405.17461, sec. 3",
    flops=emr_flops,
    needs=frozenset({Need.PRETRAINED}),
    scale=1.0,
    scope="model",
    surveys=MappingProxyType({"masses": Survey(masses)}),
    per_task=True,
)
