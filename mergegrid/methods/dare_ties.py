"""DARE-TIES: TIES on randomly thinned task vectors."""

from types import MappingProxyType

from jaxtyping import Float, Float64
from torch import Tensor

from mergegrid.methods.dare import thin, thin_flops
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.task_arithmetic import SCALES
from mergegrid.methods.ties import BALANCE, Aggregate, ZeroSum, ties, ties_flops
from mergegrid.methods.weighting import TaskVectorWeights


def dare_ties(
    trimmed: Float[Tensor, "expert *shape"],
    balance: Float64[Tensor, ""] | None,
    *,
    zero_sum: ZeroSum = "majority",
    aggregate: Aggregate = "mean",
    weights: TaskVectorWeights = None,
) -> Float[Tensor, "*shape"]:
    """Merge one parameter's thinned and trimmed task vectors where they agree.

    Thinned (by `thin`) and then trimmed (by the engine), in this order: the fraction
    `density` is of all entries, those that were dropped included. Where it is more than
    is left after thinning, nothing is trimmed.

    Args:
        trimmed: expert minus pretrained, thinned and trimmed, for every expert.
        balance: number of positive minus negative signs elected in the model.
        zero_sum: see `ties`.
        aggregate: see `ties`.
        weights: factors on the task vectors, see `ties`.

    Returns:
        The merged task vector, before scaling, in the precision of `trimmed`.

    Source:
        Yu et al., "Language Models are Super Mario", ICML 2024, arXiv:2311.03099, with
        the merging of Yadav et al., "TIES-Merging", NeurIPS 2023, arXiv:2306.01708.
    """
    return ties(
        trimmed,
        None,
        balance,
        zero_sum=zero_sum,
        aggregate=aggregate,
        weights=weights,
    )


def dare_ties_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of DARE-TIES on one parameter.

    Args:
        shape: the parameter's shape.
        experts: their number M.
        **options: the recipe's options.

    Returns:
        Those of TIES, and those of `thin_flops`.
    """
    thinning = thin_flops(shape, experts, **options)
    return thinning + ties_flops(shape, experts, **options)


METHOD = Method(
    name="dare_ties",
    title="DARE-TIES",
    merge=dare_ties,
    version=2,
    source='Yu et al., "Language models are Super Mario: absorbing abilities from '
    'homologous models as a free lunch", ICML 2024, arXiv:2311.03099; merged as in '
    'Yadav et al., "TIES-Merging", NeurIPS 2023, arXiv:2306.01708',
    flops=dare_ties_flops,
    needs=frozenset({Need.PRETRAINED, Need.TRIM}),
    sparsify=thin,
    whole_tensor_if=frozenset({("rescale", "norm")}),
    scale=1.0,
    density=0.2,
    scope="model",
    sweep=MappingProxyType({"drop_rate": (0.5,), "scale": SCALES}),
    surveys=MappingProxyType({"balance": BALANCE}),
)
