"""The engine: runs recipes over models, and shares what they have in common.

A merge goes over the parameters at most a few times: first passes for what a method
asks about the model as a whole (norms, thresholds, majorities), and one in which every
parameter is merged by itself. Reductions are in float32, norms and solutions of linear
systems in float64, and the merged model has the types of the pretrained one (or of the
first expert).
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from mergegrid.blocks import Block
from mergegrid.buffers import Buffers
from mergegrid.canonical import canonical_json
from mergegrid.cohort import Cohort
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.finish import Finishing, norm_factors, unscaled
from mergegrid.measured import Statistics, is_covered
from mergegrid.methods import METHODS, get_method
from mergegrid.methods.method import Method, Recipe
from mergegrid.methods.needs import Coverage
from mergegrid.parameters import Parameters
from mergegrid.passes import merge_pass
from mergegrid.rounding import warn_of_rounding
from mergegrid.running_statistics import RunningVariance
from mergegrid.sources import InMemory
from mergegrid.surveying import measure
from mergegrid.variant import Variant

RecipeLike: TypeAlias = Recipe | Mapping[str, Any] | str
"""A recipe, its mapping form {"method": ..., "options": {...}}, or a method's name."""

MEMORY = 4 << 30
"""Bytes of merged parameters that a sweep holds at a time, unless it is told."""


class Merged(NamedTuple):
    """One merged model of a sweep."""

    recipe: Recipe
    """How it was made, defaults spelt out."""

    task: str | None
    """The expert whose task it is for; None for one model for all."""

    experts: tuple[str, ...]
    """The experts that went in."""

    parameters: Parameters
    """The model."""

    seconds: float
    """Time that it took: its own, and its share of what all recipes had in common."""


class Group(NamedTuple):
    """Recipes that share everything but what is applied last."""

    variant: Variant
    """What they share."""

    recipes: list[Recipe]
    """The recipes."""


def merge(
    experts: Mapping[str, Parameters] | Sequence[Parameters],
    recipe: RecipeLike,
    pretrained: Parameters | None = None,
    statistics: Statistics | None = None,
    *,
    seed: int = 0,
    task: str | None = None,
    device: torch.device | str = "cpu",
    running_variance: RunningVariance = "average",
) -> Parameters:
    """Merge experts into one model.

    Parameters are merged as the recipe's method says. Those that are the same in every
    model are copied, those that the method does not cover or has no statistic for are
    averaged; `mergegrid.parameters` says what happens to buffers and tied tensors. If
    most of a task vector was lost in rounding to 16 bits, a warning is logged.

    Args:
        experts: parameters by expert, or in a sequence, where experts are called "0",
            "1" and so on. Names and shapes must be equal in all models.
        recipe: the method and its options.
        pretrained: what the experts were fine-tuned from, where the method needs it.
        statistics: what was measured on each expert, by need and expert. Norms and trim
            thresholds are computed if they are not given.
        seed: for methods that draw at random. Draws depend on it and on the names of
            expert and parameter alone.
        task: for methods that yield a model for each expert's task: the expert.
        device: where arithmetic happens.
        running_variance: what becomes of running variances of normalization layers, see
            `mergegrid.running_statistics`.

    Returns:
        New tensors on `device`, in the types of `pretrained`, or else of the first
        expert. Tensors that are tied in every model are tied.

    Raises:
        InputError: if the recipe is wrong, or not for this number of experts, or the
            task is missing, unknown or not called for.
        LayoutError: if models or statistics do not fit one another.
        NonFiniteError: if there is NaN or infinity in a model or statistic.
        MissingPrerequisiteError: if the method needs something that is not given.
    """
    named = _named(experts)
    checked = read_recipe(recipe)
    check_task(get_method(checked.method), task, named)
    models = sweep(
        named,
        [checked],
        pretrained,
        statistics,
        seed=seed,
        device=device,
        running_variance=running_variance,
    )
    return next(made.parameters for made in models if made.task == task)


def sweep(
    experts: Mapping[str, Parameters] | Sequence[Parameters],
    recipes: Sequence[RecipeLike],
    pretrained: Parameters | None = None,
    statistics: Statistics | None = None,
    *,
    subsets: Sequence[Collection[str]] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    memory: int = MEMORY,
    running_variance: RunningVariance = "average",
) -> Iterator[Merged]:
    """Merge experts in several ways, at less than the price of several merges.

    Every merged model is what `merge` returns. Every parameter is read once for all
    recipes; they share task vectors, thresholds, draws, summed Gram matrices and the
    iterates of one run of conjugate gradients, and recipes that differ in what is
    applied last (`scale`, ...) share their merged task vector. Merged models are
    finished one at a time, when they are asked for.

    Args:
        experts: see `merge`.
        recipes: what to do with them. All are checked before the first merge.
        pretrained: see `merge`.
        statistics: see `merge`.
        subsets: for each recipe, the experts that it merges; None for all of them.
            Where a method is a sum, nested subsets share running sums.
        seed: see `merge`.
        device: see `merge`.
        memory: bytes of merged parameters to hold at a time; if not all recipes' fit,
            parameters are read again for the next ones.
        running_variance: see `merge`.

    Returns:
        The merged models: for methods that yield one for each task, as many as experts,
        one after the other. So come recipes that share a merged task vector, where the
        first of them was.

    Raises:
        InputError: if a recipe is wrong, or not for this number of experts.
        UnknownNameError: if a subset has an expert that is not given.
        LayoutError: if models or statistics do not fit one another.
        NonFiniteError: if there is NaN or infinity in a model or statistic.
        MissingPrerequisiteError: if a method needs something that is not given.
    """
    checked = [read_recipe(recipe) for recipe in recipes]
    named = _named(experts)
    of_recipes = [tuple(named)] * len(checked) if subsets is None else subsets
    cohort = Cohort(
        {name: InMemory(parameters) for name, parameters in named.items()},
        None if pretrained is None else InMemory(pretrained),
        statistics or {},
        seed=seed,
        device=torch.device(device),
        running_variance=running_variance,
    )
    groups: dict[str, Group] = {}
    for recipe, subset in zip(checked, of_recipes, strict=True):
        for expert in subset:
            if expert not in named:
                raise UnknownNameError("expert", expert, named)
        variant = cohort.variant(recipe, subset)
        key = canonical_json([unscaled(recipe), variant.members])
        groups.setdefault(key, Group(variant, []))[1].append(recipe)
    for group in groups.values():
        cohort.require(group.variant)
    warn_of_rounding(cohort, [group.variant for group in groups.values()])
    return _sweep_groups(cohort, list(groups.values()), memory)


def read_recipe(recipe: RecipeLike) -> Recipe:
    """Check a recipe and spell its defaults out.

    Args:
        recipe: a recipe, its mapping form or a method's name.

    Returns:
        The recipe.

    Raises:
        InputError: if a method, option or key is unknown, an option is out of range,
            or the recipe is for another version of the method.
        UnknownNameError: if a key is unknown.
    """
    match recipe:
        case str():
            return get_method(recipe).recipe()
        case Recipe():
            entries = recipe.identity()
        case _:
            entries = dict(recipe)
    for key in entries:
        if key not in {"method", "version", "options"}:
            raise UnknownNameError("key of a recipe", key, ("method", "options"))
    if not isinstance(entries.get("method"), str):
        raise InputError("A recipe needs the name of its method: method: NAME.")
    method = get_method(entries["method"])
    version = entries.get("version", method.version)
    if version != method.version:
        raise InputError(
            f"The recipe is for version {version} of {method.name}; this is version "
            f"{method.version}."
        )
    options = entries.get("options") or {}
    if not isinstance(options, Mapping):
        raise InputError(f"The options of {method.name} are no mapping: {options!r}.")
    return method.recipe(options)


def check_task(method: Method, task: str | None, experts: Collection[str]) -> None:
    """Check that a task is named exactly where a method yields a model for each.

    Args:
        method: the method.
        task: the expert whose task is meant, or None.
        experts: the experts' names.

    Raises:
        InputError: if it is missing or not called for.
        UnknownNameError: if there is no such expert.
    """
    if method.per_task and task is None:
        raise InputError(
            f"{method.name} yields a model for each task: name one of "
            f"{', '.join(experts)} as the task."
        )
    if not method.per_task and task is not None:
        raise InputError(
            f"{method.name} yields one model for all tasks: leave out task {task!r}."
        )
    if task is not None and task not in experts:
        raise UnknownNameError("expert", task, experts)


def merge_flops(
    layout: Mapping[str, tuple[int, ...]],
    linear: Collection[str],
    recipe: Recipe,
    experts: int,
) -> tuple[int, float]:
    """Count the floating-point operations of a merge.

    Args:
        layout: shape of every parameter that is merged.
        linear: the weights of linear layers, which have Gram matrices.
        recipe: the method and its options.
        experts: how many experts are merged.

    Returns:
        The exact count, a multiply-add as two, and the count by the formulas of the
        Realistic Evaluation paper (Tam et al., arXiv:2409.18314, Table 3), 0 for
        methods that it does not have. Statistics are not included.
    """
    method = get_method(recipe.method)
    exact, paper = 0, 0.0
    for name, shape in layout.items():
        covered = is_covered(method, shape) and (
            method.coverage is not Coverage.LINEAR or name in linear
        )
        counted = method if covered else METHODS["average"]
        options = recipe.options if covered else {}
        exact += counted.flops(shape, experts, **options)
        if method.paper_flops is not None and counted.paper_flops is not None:
            paper += counted.paper_flops(shape, experts, **options)
    return exact, paper


def _named(
    experts: Mapping[str, Parameters] | Sequence[Parameters],
) -> dict[str, Parameters]:
    if isinstance(experts, Mapping):
        return dict(experts)
    return {str(index): expert for index, expert in enumerate(experts)}


def _sweep_groups(
    cohort: Cohort, groups: Sequence[Group], memory: int
) -> Iterator[Merged]:
    of_model = _bytes_of_model(cohort)
    batch: list[Group] = []
    held = 0
    for group in groups:
        variant = group.variant
        models = len(variant.members) if variant.method.per_task else 1
        size = of_model * models
        if batch and held + size > memory:
            yield from _merge_batch(cohort, batch)
            batch, held = [], 0
        batch.append(group)
        held += size
    if batch:
        yield from _merge_batch(cohort, batch)


def _bytes_of_model(cohort: Cohort) -> int:
    entries = sum(cohort.layout.entries(name) for name in cohort.parameters)
    return entries * torch.float32.itemsize


def _merge_batch(cohort: Cohort, groups: Sequence[Group]) -> Iterator[Merged]:
    start = time.perf_counter()
    variants = [group.variant for group in groups]
    for variant in variants:
        cohort.explain(variant)
    held: list[dict[str, Tensor]] = [{} for _ in groups]
    room = Buffers(_bytes_of_model(cohort))

    def keep(number: int, block: Block, stretch: Tensor) -> None:
        name = block.name
        if name not in held[number]:
            rows = stretch.shape[:-1]
            shape = (*rows, cohort.layout.entries(name))
            held[number][name] = room.numbers(shape, stretch.device)
        held[number][name][..., block.start : block.stop] = stretch

    every = dict(enumerate(variants))
    found = measure(cohort, variants)
    merge_pass(cohort, dict.fromkeys(cohort.parameters, every), found, keep)
    recipes = sum(len(group.recipes) for group in groups)
    own = found.seconds
    common = (time.perf_counter() - start - sum(own.values())) / recipes
    for number, group in enumerate(groups):
        merged, held[number] = held[number], {}
        shared = common + own.get(number, 0.0) / len(group.recipes)
        yield from _finish(cohort, group, merged, shared, room)


def _finish(
    cohort: Cohort,
    group: Group,
    merged: Mapping[str, Tensor],
    shared: float,
    room: Buffers,
) -> Iterator[Merged]:
    finishing = Finishing(cohort, None, group.variant.members)
    names = list(cohort.experts)
    experts = tuple(names[index] for index in group.variant.members)
    tasks = experts if group.variant.method.per_task else (None,)
    for recipe in group.recipes:
        start = time.perf_counter()
        factors = [1.0] * len(tasks)
        if recipe.options.get("match_norm"):
            parts = [
                tensor.abs().sum(dim=-1, dtype=torch.float64).reshape(-1).cpu()
                for tensor in merged.values()
            ]
            lengths = torch.stack(parts).sum(dim=0).tolist()
            factors = norm_factors(cohort, group.variant, lengths)
        for index, task in enumerate(tasks):
            rows = merged
            if task is not None:
                rows = {name: tensor[index] for name, tensor in merged.items()}
            is_last = task is None and recipe is group.recipes[-1]
            model = finishing.model(
                recipe, rows, factors[index], None if is_last else room
            )
            seconds = time.perf_counter() - start + shared / len(tasks)
            yield Merged(recipe, task, experts, model, seconds)
            start = time.perf_counter()
