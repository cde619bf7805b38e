"""PCB-merging: every entry weighted by how it competes, in its expert and with others.

Order statistics are of the whole model, so they are taken in four surveys, two for the
bounds of magnitudes and, when these are known, two for the bounds of scores.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float, Float32, Float64
from pydantic import Field
from torch import Tensor

from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.quantiles import count_lowers, count_uppers, order_statistics
from mergegrid.methods.survey import Survey

Clip: TypeAlias = Annotated[
    float,
    Field(
        ge=0,
        lt=0.5,
        description="fraction of entries, at either end of the order of magnitudes, "
        "that is clipped to the next",
    ),
]

Keep: TypeAlias = Annotated[
    float,
    Field(gt=0, le=1, description="fraction of entries, of best score, that is kept"),
]

Uppers: TypeAlias = Float64[Tensor, "expert bin"]
Lowers: TypeAlias = Float64[Tensor, "expert bound bin"]


def pcb(
    task_vectors: Float[Tensor, "expert *shape"],
    uppers: Uppers,
    lowers: Lowers,
    score_uppers: Uppers,
    score_lowers: Lowers,
    *,
    clip: Clip = 0.0001,
    keep: Keep = 0.1,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's task vectors into a mean weighted entry by entry.

    For each of the M experts, with c_e the magnitudes |t_e| of its task vector, clipped
    at their quantiles `clip` and 1 - `clip`, and n_e = (c_e - min c_e) / (max c_e -
    min c_e), an entry's score is

        s_e = exp(M n_e^2) * tanh(t_e * sum_f t_f),

    intra- times inter-balancing. Scores below their quantile q_e at 1 - `keep` have no
    weight, the others w_e = (s_e - q_e) / (max s_e - q_e), and

        merged = sum_e w_e sign(t_e) c_e / sum_e w_e,

    or 0 where no expert has weight. If all magnitudes are equal, n_e = 0; if all scores
    kept are equal, their weight is 1 if they are positive and 0 otherwise.

    Args:
        task_vectors: t_e, expert minus pretrained, for every expert.
        uppers: histograms of the model's magnitudes, from `count_magnitudes`.
        lowers: their refinement, from `count_bounds`.
        score_uppers: histograms of the model's scores, from `count_scores`.
        score_lowers: their refinement, from `count_score_bounds`.
        clip: see above.
        keep: see above.

    Returns:
        The merged task vector, before scaling, in the precision of `task_vectors`;
        scores are computed in float64 and compared in float32.

    Source:
        Du et al., "Parameter Competition Balancing for Model Merging", NeurIPS 2024,
        arXiv:2410.02396, as in the authors' code, up to one entry in the quantiles.
    """
    above = torch.zeros_like(task_vectors[0], dtype=torch.float64)
    below = torch.zeros_like(above)
    if not above.numel():
        return above.to(task_vectors.dtype)
    competing = scored(task_vectors, uppers, lowers, clip=clip)
    for expert, (clipped, scores) in enumerate(competing):
        histograms = score_uppers[expert], score_lowers[expert]
        least, best = order_statistics(*histograms, _kept(keep))
        if best > least:
            weights = ((scores.double() - least) / (best - least)).clamp_(0, 1)
        else:
            weights = ((scores >= least) & (scores > 0)).double()
        above += weights * clipped
        below += weights
    return (above / below.where(below > 0, 1)).to(task_vectors.dtype)


def scored(
    task_vectors: Float[Tensor, "expert *shape"],
    uppers: Uppers,
    lowers: Lowers,
    *,
    clip: float,
) -> Iterator[tuple[Float64[Tensor, "*shape"], Float32[Tensor, "*shape"]]]:
    """Clip and score one parameter's task vectors.

    Args:
        task_vectors: see `pcb`.
        uppers: see `pcb`.
        lowers: see `pcb`.
        clip: see `pcb`.

    Yields:
        For each expert, its clipped task vector and the scores of its entries.
    """
    experts = len(task_vectors)
    total = task_vectors.sum(dim=0, dtype=torch.float64)
    # One expert at a time, so that no more than one is held in float64.
    for expert, task_vector in enumerate(task_vectors):
        magnitudes = task_vector.abs()
        low, high = order_statistics(uppers[expert], lowers[expert], _ends(clip))
        clipped = magnitudes.double().clamp_(low, high)
        place = (clipped - low) / (high - low if high > low else 1)
        # The factor exp(-M) on all scores changes no weight, and prevents overflow.
        intra = place.square_().sub_(1).mul_(experts).exp_()
        inter = (task_vector * total).tanh_()
        yield clipped * task_vector.sign(), (intra * inter).float()


def count_magnitudes(task_vectors: Float[Tensor, "expert *shape"]) -> Uppers:
    """Count one parameter's magnitudes.

    Args:
        task_vectors: see `pcb`.

    Returns:
        A histogram for each expert.
    """
    return torch.stack([count_uppers(vector.abs()) for vector in task_vectors])


def count_bounds(
    task_vectors: Float[Tensor, "expert *shape"],
    uppers: Uppers,
    *,
    clip: Clip = 0.0001,
) -> Lowers:
    """Count one parameter's magnitudes near the bounds that they are clipped to.

    Args:
        task_vectors: see `pcb`.
        uppers: see `pcb`.
        clip: see `pcb`.

    Returns:
        Two histograms for each expert.
    """
    counted = [
        count_lowers(vector.abs(), histogram, _ends(clip))
        for vector, histogram in zip(task_vectors, uppers, strict=True)
    ]
    return torch.stack(counted)


def count_scores(
    task_vectors: Float[Tensor, "expert *shape"],
    uppers: Uppers,
    lowers: Lowers,
    *,
    clip: Clip = 0.0001,
) -> Uppers:
    """Count one parameter's scores.

    Args:
        task_vectors: see `pcb`.
        uppers: see `pcb`.
        lowers: see `pcb`.
        clip: see `pcb`.

    Returns:
        A histogram for each expert.
    """
    competing = scored(task_vectors, uppers, lowers, clip=clip)
    return torch.stack([count_uppers(scores) for _, scores in competing])


def count_score_bounds(
    task_vectors: Float[Tensor, "expert *shape"],
    uppers: Uppers,
    lowers: Lowers,
    score_uppers: Uppers,
    *,
    clip: Clip = 0.0001,
    keep: Keep = 0.1,
) -> Lowers:
    """Count one parameter's scores near the least that is kept, and near the best.

    Args:
        task_vectors: see `pcb`.
        uppers: see `pcb`.
        lowers: see `pcb`.
        score_uppers: see `pcb`.
        clip: see `pcb`.
        keep: see `pcb`.

    Returns:
        Two histograms for each expert.
    """
    competing = scored(task_vectors, uppers, lowers, clip=clip)
    counted = [
        count_lowers(scores, histogram, _kept(keep))
        for (_, scores), histogram in zip(competing, score_uppers, strict=True)
    ]
    return torch.stack(counted)


def pcb_flops(shape: tuple[int, ...], experts: int, **_options: Option) -> int:
    """Count the floating-point operations of PCB-merging on one parameter.

    Counting in bins is not floating-point arithmetic and not counted.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **_options: the recipe's options, on which the count does not depend.

    Returns:
        Per entry: M differences; 2M for magnitudes in two surveys; thrice (in two
        surveys and to merge) M - 1 additions, and 13M to clip and to score; 4M for
        weights, 3M to weight and add up, a division, the multiply-add of the scale.
    """
    scoring = 3 * (experts - 1 + 13 * experts)
    return (3 * experts + scoring + 7 * experts + 1 + 2) * math.prod(shape)


def _ends(clip: float) -> tuple[Fraction, Fraction]:
    # The decimal that is meant: 0.0001 of 10,000 entries is one.
    return Fraction(str(clip)), 1 - Fraction(str(clip))


def _kept(keep: float) -> tuple[Fraction, Fraction]:
    return 1 - Fraction(str(keep)), Fraction(1)


METHOD = Method(
    name="pcb",
    title="PCB-merging",
    merge=pcb,
    version=2,
    source='Du et al., "Parameter competition balancing for model merging", NeurIPS '
    "2024, arXiv:2410.02396",
    flops=pcb_flops,
    needs=frozenset({Need.PRETRAINED}),
    scale=1.2,
    scope="model",
    sweep=MappingProxyType(
        {"keep": (0.05, 0.1, 0.2), "scale": (0.8, 1.0, 1.2, 1.4, 1.6)}
    ),
    surveys=MappingProxyType(
        {
            "uppers": Survey(count_magnitudes),
            "lowers": Survey(count_bounds),
            "score_uppers": Survey(count_scores),
            "score_lowers": Survey(count_score_bounds),
        }
    ),
)
