"""Fisher merging: the average, each entry weighted by what it matters to an expert."""

import math
from types import MappingProxyType
from typing import Annotated

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import PER_EXPERT
from mergegrid.methods.survey import Survey
from mergegrid.methods.weighting import Weights, shares


def fisher(
    experts: Float[Tensor, "expert *shape"],
    fisher: Float[Tensor, "expert *shape"],
    squares: Float64[Tensor, " expert"] | None,
    *,
    floor: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="least Fisher information"),
    ] = 0.0,
    normalize: Annotated[
        bool,
        Field(description="whether each expert's Fisher is divided by its L2 norm"),
    ] = False,
    coefficients: Annotated[
        Weights | None,
        PER_EXPERT,
        Field(description="weight of each expert, in their order; None: all equal"),
    ] = None,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter into its Fisher-weighted average.

    With coefficients c_e and diagonal Fisher information F_e, entry by entry,

        merged = sum_e c_e F_e expert_e / sum_e c_e F_e.

    Where no expert has any information, the entry is the average by c_e alone; setting
    it to zero, as some released code does, ruins embeddings of rare tokens.

    Args:
        experts: the parameter in every expert.
        fisher: F_e, not negative.
        squares: squared L2 norm of every expert's F_e over the whole model, from
            `squared_fisher`; for `normalize` alone.
        floor: F_e is at least this, after normalization.
        normalize: divides F_e by its norm over the whole model, so that no expert
            prevails by the size of its loss alone.
        coefficients: c_e; only their ratios matter.

    Returns:
        The merged parameter, in the precision of `experts`; summed in float64, since
        squared gradients can be too small for float32.

    Source:
        Matena and Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS
        2022, arXiv:2111.09832.
    """
    each = (-1,) + (1,) * (experts.dim() - 1)
    information = fisher.double()
    if normalize:
        assert squares is not None, "the engine takes the survey"
        norms = squares.sqrt().view(each)
        information = (information / norms).where(norms > 0, 0)
    weights = shares(coefficients, experts).double().view(each)
    information = weights * information.clamp(min=floor)
    total = information.sum(dim=0)
    information = torch.where(total > 0, information, weights)
    total = torch.where(total > 0, total, 1)
    return ((information * experts).sum(dim=0) / total).to(experts.dtype)


def squared_fisher(
    fisher: Float[Tensor, "expert *shape"],
) -> Float64[Tensor, " expert"]:
    """Measure one parameter's part of the squared norm of every expert's Fisher.

    Args:
        fisher: diagonal Fisher information.

    Returns:
        Sums of squares, in float64.
    """
    return fisher.reshape(len(fisher), -1).double().square().sum(dim=1)


def fisher_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of Fisher merging on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Per entry: M products with c_e, M with the experts, two sums of M - 1 additions
        and a division; 3M for norms and normalizing.
    """
    normalizing = 3 * experts if options.get("normalize") else 0
    return (2 * experts + 2 * (experts - 1) + 1 + normalizing) * math.prod(shape)


def fisher_paper_flops(
    shape: tuple[int, ...], experts: int, **_options: Option
) -> float:
    """Count as the Realistic Evaluation paper does, Table 3: (3M - 1) dk.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Floating-point operations.
    """
    return float((3 * experts - 1) * math.prod(shape))


METHOD = Method(
    name="fisher",
    title="Fisher",
    merge=fisher,
    version=1,
    source='Matena and Raffel, "Merging models with Fisher-weighted averaging", '
    "NeurIPS 2022, arXiv:2111.09832",
    flops=fisher_flops,
    paper_flops=fisher_paper_flops,
    needs=frozenset({Need.FISHER}),
    surveys=MappingProxyType(
        {"squares": Survey(squared_fisher, only_if=frozenset({("normalize", True)}))}
    ),
)
