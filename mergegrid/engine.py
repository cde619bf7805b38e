"""The engine: runs recipes over models, and shares what they have in common.

A merge goes over the parameters at most twice: a first pass for what a method asks
about the model as a whole (norms, thresholds, majorities), and one in which every
parameter is merged by itself. Reductions are in float32, norms and solutions of linear
systems in float64, and the merged model has the types of the pretrained one (or of the
first expert).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mergegrid.canonical import canonical_json
from mergegrid.cohort import Cohort
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.measured import Statistics
from mergegrid.methods import METHODS, get_method
from mergegrid.methods.method import Coverage, Method, Option, Recipe
from mergegrid.parameters import Parameters, Role

RecipeLike: TypeAlias = Recipe | Mapping[str, Any] | str
"""A recipe, its mapping form {"method": ..., "options": {...}}, or a method's name."""


def merge(
    experts: Mapping[str, Parameters] | Sequence[Parameters],
    recipe: RecipeLike,
    pretrained: Parameters | None = None,
    statistics: Statistics | None = None,
    *,
    seed: int = 0,
) -> Parameters:
    """Merge experts into one model.

    Parameters are merged as the recipe's method says. Those that are the same in every
    model are copied, those that the method does not cover or has no statistic for are
    averaged; `mergegrid.parameters` says what happens to buffers and tied tensors.

    Args:
        experts: parameters by expert, or in a sequence, where experts are called "0",
            "1" and so on. Names, shapes and types must be equal in all models.
        recipe: the method and its options.
        pretrained: what the experts were fine-tuned from, where the method needs it.
        statistics: what was measured on each expert, by need and expert. Norms and trim
            thresholds are computed if they are not given.
        seed: for methods that draw at random. Draws depend on it and on the names of
            expert and parameter alone.

    Returns:
        New tensors, in the types of `pretrained`, or else of the first expert. Tensors
        that are tied in every model are tied.

    Raises:
        InputError: if the recipe is wrong, or not for this number of experts.
        LayoutError: if models or statistics do not fit one another.
        NonFiniteError: if there is NaN or infinity in a model or statistic.
        MissingPrerequisiteError: if the method needs something that is not given.
    """
    ((_, merged),) = sweep(experts, [recipe], pretrained, statistics, seed=seed)
    return merged


def sweep(
    experts: Mapping[str, Parameters] | Sequence[Parameters],
    recipes: Sequence[RecipeLike],
    pretrained: Parameters | None = None,
    statistics: Statistics | None = None,
    *,
    seed: int = 0,
) -> Iterator[tuple[Recipe, Parameters]]:
    """Merge the same experts in several ways, at less than the price of several merges.

    Every merged model is exactly what `merge` returns. Models are checked and task
    vectors computed once, and recipes that differ in `scale` alone share their merged
    task vector. One merged model is made at a time, when it is asked for.

    Args:
        experts: see `merge`.
        recipes: what to do with them. All are checked before the first merge.
        pretrained: see `merge`.
        statistics: see `merge`.
        seed: see `merge`.

    Returns:
        Every recipe, its defaults spelt out, with the merged model. Recipes that differ
        in `scale` alone come one after the other, where the first of them was.

    Raises:
        InputError: if a recipe is wrong, or not for this number of experts.
        LayoutError: if models or statistics do not fit one another.
        NonFiniteError: if there is NaN or infinity in a model or statistic.
        MissingPrerequisiteError: if a method needs something that is not given.
    """
    named = (
        experts
        if isinstance(experts, Mapping)
        else {str(index): expert for index, expert in enumerate(experts)}
    )
    checked = [read_recipe(recipe) for recipe in recipes]
    cohort = Cohort(named, pretrained, statistics or {}, seed=seed)
    groups: dict[str, list[Recipe]] = {}
    for recipe in checked:
        method = get_method(recipe.method)
        _check_number(method, len(named))
        cohort.require(method)
        groups.setdefault(canonical_json(_unscaled(recipe)), []).append(recipe)
    return _merge_groups(cohort, list(groups.values()))


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
        Realistic Evaluation paper (Tam et al., arXiv:2409.18314, Table 3). Statistics
        are not included.
    """
    method = get_method(recipe.method)
    exact, paper = 0, 0.0
    for name, shape in layout.items():
        is_covered = method.coverage is Coverage.ALL or name in linear
        counted = method if is_covered else METHODS["average"]
        options = recipe.options if is_covered else {}
        exact += counted.flops(shape, experts, **options)
        paper += counted.paper_flops(shape, experts, **options)
    return exact, paper


def _check_number(method: Method, experts: int) -> None:
    fewest, most = method.experts
    if experts < fewest or (most is not None and experts > most):
        allowed = (
            f"exactly {fewest}"
            if fewest == most
            else f"at least {fewest}"
            if most is None
            else f"{fewest} to {most}"
        )
        raise InputError(
            f"{method.name} merges {allowed} experts, not {experts}."
            + (" For any number there is mlerp." if method.name == "slerp" else "")
        )


def _unscaled(recipe: Recipe) -> dict[str, Option]:
    is_scaled = get_method(recipe.method).scale is not None
    options = {
        name: value
        for name, value in recipe.options.items()
        if not (is_scaled and name == "scale")
    }
    return {"method": recipe.method, "options": options}


def _merge_groups(
    cohort: Cohort, groups: Sequence[Sequence[Recipe]]
) -> Iterator[tuple[Recipe, Parameters]]:
    for group in groups:
        merged = _merge_unscaled(cohort, group[0])
        for recipe in group:
            yield recipe, _finish(cohort, recipe, merged)


def _merge_unscaled(cohort: Cohort, recipe: Recipe) -> dict[str, Tensor]:
    # For methods on task vectors, values are merged task vectors, not yet scaled.
    method = get_method(recipe.method)
    names = cohort.mergeable(method)
    is_whole = recipe.options.get("scope") != "tensor"
    options = {name: recipe.options[name] for name in method.merged_options}
    whole = cohort.whole(method, recipe.options, names if is_whole else ())
    merged: dict[str, Tensor] = {}
    for name in names:
        if not is_whole:
            whole = cohort.whole(method, recipe.options, [name])
        tensors = cohort.arguments(method.arguments, name, whole)
        merged[name] = method.merge(*tensors, **options)
    return merged


def _finish(
    cohort: Cohort, recipe: Recipe, merged: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    method = get_method(recipe.method)
    unchanged = cohort.unchanged(method)
    finished: dict[str, Tensor] = {}
    for name, first in cohort.first_name.items():
        reference = cohort.reference[name]
        if first != name:
            finished[name] = finished[first]
        elif first in merged and method.scale is not None:
            scale = recipe.options["scale"]
            parameter = torch.add(cohort.base(name), merged[name], alpha=scale)
            finished[name] = parameter.to(reference.dtype)
        elif first in merged:
            finished[name] = merged[name].to(reference.dtype, copy=True)
        elif cohort.roles[name] in {Role.COPIED, Role.COUNTER}:
            finished[name] = reference.clone()
        elif name in unchanged:
            # Not the reference's: experts may agree with one another, and differ from a
            # pretrained model that the method does not read.
            finished[name] = next(iter(cohort.experts.values()))[name].clone()
        else:
            finished[name] = cohort.stack(name).mean(dim=0).to(reference.dtype)
    return finished
