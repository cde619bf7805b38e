"""MaTS: match the experts in their task subspaces, by conjugate gradients."""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mergegrid.methods.conjugate_gradients import Iterate, System, iterate
from mergegrid.methods.matching import Covariance, matching
from mergegrid.methods.method import Method
from mergegrid.methods.needs import Coverage, Need
from mergegrid.methods.options import Option
from mergegrid.methods.slices import row_slices
from mergegrid.methods.task_arithmetic import (
    BEST_SCALE,
    NO_VALIDATION_SCALE,
    task_arithmetic,
)

LOGGER = logging.getLogger("mergegrid")


def mats(
    experts: Float[Tensor, "expert *layer d_out d_in"],
    pretrained: Float[Tensor, "*layer d_out d_in"],
    grams: Float[Tensor, "expert *layer d_in d_in"] | None = None,
    gradients: Float[Tensor, "expert *layer d_out d_out"] | None = None,
    fisher: Float[Tensor, "expert *layer d_out d_in"] | None = None,
    *,
    iterations: Annotated[
        int, Field(ge=0, description="most steps of conjugate gradients")
    ] = 100,
    initial: Annotated[
        Literal["task_arithmetic", "average"],
        Field(description="merged model that the iteration starts from"),
    ] = "task_arithmetic",
    initial_scale: Annotated[
        float,
        Field(allow_inf_nan=False, description="scale of that task arithmetic"),
    ] = NO_VALIDATION_SCALE,
    covariance: Annotated[
        Covariance,
        Field(
            description="what the Fisher information is taken as: Gram matrices of the "
            "inputs, those times Gram matrices of the output gradients, or its diagonal"
        ),
    ] = "inputs",
) -> Float[Tensor, "*layer d_out d_in"]:
    r"""Merge one linear layer by an iteration towards matching every expert.

    Conjugate gradients on the linear system

        sum_e F_e(W) = sum_e F_e(W_e),

    stopped after `iterations` steps, where F_e(W), the Fisher information times the
    layer's weight W, is taken as

        inputs      W G_e         as the Realistic Evaluation paper does
        kfac        B_e W G_e     as the original does
        diagonal    D_e * W       entry by entry

    with the Gram matrices G_e of the layer's inputs and B_e of the gradients with
    respect to its outputs, and the diagonal D_e. Solved to the end, `inputs` would be
    RegMean without shrinking, and `diagonal` Fisher merging; what regularizes it is
    where it starts and when it stops. Directions that no expert ever saw keep their
    start. All rows of W are solved together as one vector.

    Args:
        experts: W_e, the layer's weight in every expert; several layers of one shape
            may be merged at once, each by itself.
        pretrained: the layer's weight in the pretrained model.
        grams: G_e, from `mergegrid.statistics.gram`; for `inputs` and `kfac`.
        gradients: B_e, from `mergegrid.statistics.kfac`; for `kfac`.
        fisher: D_e, from `mergegrid.statistics.fisher`; for `diagonal`.
        iterations: N.
        initial: start from the average, or from
            pretrained + initial_scale * sum_e (W_e - pretrained).
        initial_scale: see above; without effect when starting from the average.
        covariance: see above.

    Returns:
        The merged weight, in the precision of `experts`; computed in float64.

    Source:
        Tam et al., "Merging by Matching Models in Task Parameter Subspaces", TMLR 2024,
        arXiv:2312.04339; as in Tam et al., arXiv:2409.18314.
    """
    recipe = {
        "iterations": iterations,
        "initial": initial,
        "initial_scale": initial_scale,
        "covariance": covariance,
    }
    tensors = (experts, pretrained, grams, gradients, fisher)
    return next(mats_all(*tensors, recipes=[recipe]))


def mats_all(
    experts: Float[Tensor, "expert *layer d_out d_in"],
    pretrained: Float[Tensor, "*layer d_out d_in"],
    grams: Float[Tensor, "expert *layer d_in d_in"] | None = None,
    gradients: Float[Tensor, "expert *layer d_out d_out"] | None = None,
    fisher: Float[Tensor, "expert *layer d_out d_in"] | None = None,
    *,
    recipes: Sequence[Mapping[str, Option]],
) -> Iterator[Float[Tensor, "*layer d_out d_in"]]:
    """Merge one linear layer by several recipes that share their iterations.

    Recipes that differ in `iterations` alone are stops of one iteration, and those that
    start elsewhere still share the sums over experts. The residuals that led from stop
    to stop are logged at the level `DEBUG`.

    Args:
        experts: see `mats`.
        pretrained: see `mats`.
        grams: see `mats`.
        gradients: see `mats`.
        fisher: see `mats`.
        recipes: the options of `mats`, for each result.

    Yields:
        The merged weights, in the order of the recipes. Those of one iteration are made
        as they are asked for if they come in the order of `iterations`; otherwise they
        are kept from when it passes them.
    """
    systems: dict[Covariance, tuple[System, Tensor]] = {}
    runs: dict[tuple[Option, ...], Iterator[tuple[int, Tensor]]] = {}
    found: dict[int, Tensor] = {}
    names = [_run_of(recipe) for recipe in recipes]
    for number, (recipe, name) in enumerate(zip(recipes, names, strict=True)):
        if name not in runs:
            kind: Covariance = recipe["covariance"]
            if kind not in systems:
                systems[kind] = matching(kind, experts, grams, gradients, fisher)
            open_runs = {other for other in names if other not in runs} - {name}
            is_last = kind not in {covariance for covariance, _ in open_runs}
            posed = systems.pop(kind) if is_last else systems[kind]
            steps = iterate(*posed, _start(experts, pretrained, recipe))
            del posed  # the iteration gives up what it does not need
            stops = {
                other: recipes[other]["iterations"]
                for other in range(number, len(recipes))
                if names[other] == name
            }
            runs[name] = _run(steps, stops, experts.dtype)
        while number not in found:
            passed, merged = next(runs[name])
            found[passed] = merged
        yield found.pop(number)


def _run_of(recipe: Mapping[str, Option]) -> tuple[Option, ...]:
    """Name the iteration that a recipe is a stop of."""
    if recipe["initial"] == "average":
        return recipe["covariance"], "average"
    return recipe["covariance"], recipe["initial_scale"]


def _start(experts: Tensor, pretrained: Tensor, recipe: Mapping[str, Option]) -> Tensor:
    start = torch.empty_like(pretrained, dtype=torch.float64)
    for rows in row_slices(start):
        weights, base = experts[..., rows, :], pretrained[..., rows, :]
        if recipe["initial"] == "average":
            start[..., rows, :] = weights.mean(dim=0)
        else:
            merged = task_arithmetic(weights - base)
            start[..., rows, :] = base + recipe["initial_scale"] * merged
    return start


def _run(
    steps: Iterator[Iterate], stops: Mapping[int, int], dtype: torch.dtype
) -> Iterator[tuple[int, Tensor]]:
    """Give what an iteration has reached at each stop, by number, as it passes them."""
    solution, residual = next(steps)
    passed = 0
    for number, stop in sorted(stops.items(), key=lambda item: item[1]):
        further = itertools.islice(steps, stop - passed)
        residuals = [residual, *(residual for _, residual in further)]
        _report(passed, stop, residuals)
        passed, residual = stop, residuals[-1]
        yield number, solution.to(dtype, copy=True)


def _report(passed: int, stop: int, residuals: Sequence[Tensor]) -> None:
    if LOGGER.isEnabledFor(logging.DEBUG):  # else there is no need to wait for them
        for history in torch.stack([*residuals]).view(len(residuals), -1).T.tolist():
            LOGGER.debug(
                "mats: residuals from step %d to at most %d: %s",
                passed,
                stop,
                " ".join(f"{residual:.3g}" for residual in history),
            )


def mats_flops(shape: tuple[int, ...], experts: int, **options: Option) -> int:
    """Count the floating-point operations of MaTS on one linear layer.

    Args:
        shape: (d_out, d_in).
        experts: their number M.
        **options: the recipe's options.

    Returns:
        With d = d_in, k = d_out, N iterations and s for applying the system once: N (s
        + 10 dk) for the steps, s + dk for the first residual, and the start: (2M + 1)
        dk, or M dk for the average. To that come, with `inputs`, where s = 2 d^2 k,
        M d^2 to add up the Grams and 2M d^2 k + M dk for the target; with `kfac`, where
        s = 2M (d^2 k + d k^2), s for the target; with `diagonal`, where s = dk, M dk to
        add up and 2M dk for the target. In a sweep over N, all but the steps is common
        to all recipes, and so are the steps up to the least N.
    """
    d_out, d_in = shape
    entries = d_out * d_in
    match options.get("covariance", "inputs"):
        case "kfac":
            system = 2 * experts * entries * (d_in + d_out)
            preparing = system
        case "diagonal":
            system = entries
            preparing = 3 * experts * entries
        case _:
            system = 2 * entries * d_in
            preparing = experts * (d_in**2 + system + entries)
    steps = options["iterations"] * (system + 10 * entries)
    first = system + entries
    is_average = options.get("initial") == "average"
    start = (experts if is_average else 2 * experts + 1) * entries
    return int(preparing + steps + first + start)


def mats_paper_flops(shape: tuple[int, ...], experts: int, **options: Option) -> float:
    """Count as the Realistic Evaluation paper does, Table 3.

    Args:
        shape: (k, d).
        experts: their number M.
        **options: the recipe's options, of which `iterations` is N; the paper has the
            covariance of the inputs alone.

    Returns:
        (M + N) d^2 k + (2M + 5N - 2) dk.
    """
    entries = math.prod(shape)
    iterations = options["iterations"]
    return float(
        (experts + iterations) * entries * shape[-1]
        + (2 * experts + 5 * iterations - 2) * entries
    )


def mats_memory(shape: tuple[int, ...], experts: int) -> int:
    """Count the bytes that MaTS takes besides what it is handed.

    Args:
        shape: (d_out, d_in).
        experts: their number M.

    Returns:
        With d = d_in and k = d_out: 8 d^2 and 8 k^2 for matrices of the system, 32 d k
        for four iterates and 4 d k for the result.
    """
    del experts
    return 8 * sum(side**2 for side in shape) + 36 * math.prod(shape)


METHOD = Method(
    name="mats",
    title="MaTS",
    merge=mats,
    merge_all=mats_all,
    version=1,
    source='Tam et al., "Merging by matching models in task parameter subspaces", '
    "TMLR 2024, arXiv:2312.04339",
    flops=mats_flops,
    memory=mats_memory,
    paper_flops=mats_paper_flops,
    needs=frozenset({Need.PRETRAINED}),
    needs_if=MappingProxyType(
        {
            ("covariance", "inputs"): frozenset({Need.GRAM}),
            ("covariance", "kfac"): frozenset({Need.GRAM, Need.GRADIENT}),
            ("covariance", "diagonal"): frozenset({Need.FISHER}),
        }
    ),
    coverage=Coverage.LINEAR,
    whole_tensor=True,
    takes_stacks=True,
    sweep=MappingProxyType(
        {"iterations": tuple(range(10, 101, 10)), "initial_scale": ("best",)}
    ),
    best=MappingProxyType({"initial_scale": BEST_SCALE}),
)
