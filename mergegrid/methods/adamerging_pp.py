"""AdaMerging++: AdaMerging of task vectors that TIES has trimmed and elected."""

import math
from types import MappingProxyType

from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.learning.learned import Learning
from mergegrid.methods.adamerging import learn
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.supermerge import supermerge, supermerge_flops
from mergegrid.methods.ties import UNWEIGHTED_BALANCE, ZeroSum, elect


def adamerging_pp(
    pretrained: Float[Tensor, "*shape"],
    trimmed: Float[Tensor, "expert *shape"],
    balance: Float64[Tensor, ""] | None,
    coefficients: Float[Tensor, " expert"],
    *,
    zero_sum: ZeroSum = "majority",
) -> Float[Tensor, "*shape"]:
    """Add what is left of one parameter's task vectors, each by its coefficient.

    Args:
        pretrained: the pretrained parameter.
        trimmed: expert minus pretrained, trimmed, for every expert.
        balance: see `mergegrid.methods.ties`.
        coefficients: c, of this parameter.
        zero_sum: see `mergegrid.methods.ties`.

    Returns:
        The merged parameter, in the precision of `trimmed`.

    Source:
        Yang et al., "AdaMerging", ICLR 2024, arXiv:2310.02575, sec. 3.2.
    """
    agreeing = agreeing_task_vectors(trimmed, balance, zero_sum=zero_sum)
    return supermerge(pretrained, agreeing, coefficients)


def agreeing_task_vectors(
    trimmed: Float[Tensor, "expert *shape"],
    balance: Float64[Tensor, ""] | None,
    *,
    zero_sum: ZeroSum = "majority",
) -> Float[Tensor, "expert *shape"]:
    """Give what coefficients multiply: trimmed entries that have the elected sign.

    Args:
        trimmed: expert minus pretrained, trimmed, for every expert.
        balance: see `mergegrid.methods.ties`.
        zero_sum: see `mergegrid.methods.ties`.

    Returns:
        The entries of `trimmed` where they agree, zero elsewhere.
    """
    elected = elect(trimmed, balance, zero_sum=zero_sum)
    return trimmed.where(trimmed * elected > 0, 0)


def adamerging_pp_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of merging one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Those of `supermerge_flops`; per entry, to elect (twice, since the survey elects
        too): 3M for magnitudes and comparisons, M - 1 additions and a sign; 2 for the
        rule of zero sums; 2M to compare signs and mask.
    """
    electing = 2 * (3 * experts + experts - 1 + 1) + 2 + 2 * experts
    return supermerge_flops(shape, experts, **options) + electing * math.prod(shape)


METHOD = Method(
    name="adamerging_pp",
    title="AdaMerging++",
    merge=adamerging_pp,
    version=1,
    source='Yang et al., "AdaMerging: adaptive model merging for multi-task learning", '
    "ICLR 2024, arXiv:2310.02575, sec. 3.2",
    flops=adamerging_pp_flops,
    needs=frozenset({Need.PRETRAINED, Need.TRIM, Need.COEFFICIENTS}),
    density=0.2,
    scope="model",
    learning=Learning(learn, "unlabelled", agreeing_task_vectors),
    surveys=MappingProxyType({"balance": UNWEIGHTED_BALANCE}),
)
