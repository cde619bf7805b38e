"""Prefect task that merges and evaluates a unit of cells, in memory, cell by cell.

A unit is a group of cells over the same experts, or over nested subsets of them.
Experts and statistics are read once, what the cells have in common is computed once,
each merged model is written into the one model that is evaluated, and each cell is
recorded as soon as it is scored.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn

from mergegrid.canonical import canonical_json
from mergegrid.costs import Cost, measure_cost, peak_memory
from mergegrid.engine import Merged, merge_flops, sweep
from mergegrid.evaluation import Tally
from mergegrid.methods import get_method
from mergegrid.methods.method import Recipe
from mergegrid.steps import Scored
from mergegrid.stored_parts import Part
from mergegrid.suites.suite import Split
from storage.turns import turn
from tasks.choose import best_options
from tasks.evaluate import evaluate_as
from tasks.progress import News, tell
from tasks.record import cell_row, score_rows
from tasks.statistics import joint_keys, read_joint, read_statistics
from tasks.step import work_task
from tasks.stored import merged_parts, storage_rows
from tasks.workspace import Workspace


def score_cells(workspace: Workspace, keys: list[str]) -> bool:
    """Merge and evaluate a unit of cells, recording each when it is done.

    Args:
        workspace: the experiment at its root.
        keys: the cells' keys.

    Returns:
        Whether any had no scores yet.
    """
    with turn(workspace.root, keys):
        done = workspace.ledger.recorded(keys)
        entries = [workspace.steps.scored[key] for key in keys if key not in done]
        if entries:
            _merge_and_score(workspace, entries)
    return bool(entries)


def _merge_and_score(workspace: Workspace, entries: Sequence[Scored]) -> None:
    with measure_cost() as loading:
        keys_of = {n: key for entry in entries for n, key in entry.models.items()}
        # In the suite's order, whichever cells are left: sums are to be the same.
        experts = {
            task.name: workspace.parameters(keys_of[task.name])
            for task in workspace.steps.tasks
            if task.name in keys_of
        }
        pretrained = workspace.parameters(workspace.steps.pretrained.key)
        measured = read_statistics(workspace, entries)
        model = workspace.model()
    shared = loading.share(len(entries))
    for group in _groups(entries):
        seed = group[0].cell.seed
        statistics = {**measured, **read_joint(workspace, group[0])}
        # Two cells that waited for a scale may turn out to be one merge.
        merges: dict[str, tuple[Recipe, list[Scored]]] = {}
        for entry in group:
            recipe = recipe_of(workspace, entry)
            merge = _name(recipe, entry.models)
            merges.setdefault(merge, (recipe, []))[1].append(entry)
        recipes = [recipe for recipe, _ in merges.values()]
        subsets = [tuple(alike[0].models) for _, alike in merges.values()]
        together = frozenset[str]().union(*subsets)
        models = sweep(
            {name: expert for name, expert in experts.items() if name in together},
            recipes,
            pretrained,
            statistics,
            subsets=subsets,
            seed=seed,
            device=workspace.device,
        )
        # The models of a recipe, one or one for each task, come one after the other.
        for merge, of_recipe in itertools.groupby(
            models, key=lambda made: _name(made.recipe, made.experts)
        ):
            recipe, alike = merges[merge]
            parts = merged_parts(
                workspace,
                model,
                recipe,
                experts,
                pretrained,
                statistics,
                subset=alike[0].models,
                seed=seed,
            )
            _score(workspace, model, recipe, alike, of_recipe, shared, parts)


def _groups(entries: Sequence[Scored]) -> Iterable[list[Scored]]:
    """Sort cells by what they have in common: a seed, and what is of all experts."""
    groups: dict[object, list[Scored]] = {}
    for entry in sorted(entries, key=lambda entry: entry.cell.seed):
        key = entry.cell.seed, joint_keys(entry)
        groups.setdefault(key, []).append(entry)
    return groups.values()


def _name(recipe: Recipe, experts: Iterable[str]) -> str:
    return canonical_json([recipe.identity(), sorted(experts)])


def _score(
    workspace: Workspace,
    model: nn.Module,
    recipe: Recipe,
    entries: Sequence[Scored],
    models: Iterable[Merged],
    shared: Cost,
    parts: Sequence[Part],
) -> None:
    """Evaluate the models of one recipe and record the cells that they are."""
    tallies: dict[str, dict[tuple[str, Split], Tally]] = {}
    evaluating: dict[str, Cost] = {}
    merging = shared
    for made in models:
        workspace.family.set_parameters(model, made.parameters)
        merging += Cost(seconds=made.seconds, peak_memory=peak_memory())
        for entry in entries:
            found, cost = evaluate_as(workspace, model, entry, made.task)
            key = entry.step.key
            tallies.setdefault(key, {}).update(found)
            evaluating[key] = evaluating.get(key, Cost()) + cost
    merging = _with_flops(workspace, merging, recipe, len(entries[0].models))
    for entry in entries:
        key = entry.step.key
        costs = {"merge": merging, "evaluate": evaluating[key]}
        rows = score_rows(workspace.steps, entry, tallies[key], costs)
        rows.append(cell_row(workspace.steps, entry, recipe.options))
        rows += storage_rows(key, parts)
        workspace.ledger.append(key, rows)
        tell(News("done", key))


def recipe_of(workspace: Workspace, entry: Scored) -> Recipe:
    """Complete a cell's recipe, looking up the options that it waited for.

    Args:
        workspace: the experiment at its root.
        entry: the cell.

    Returns:
        The recipe, with a value for every option.
    """
    best = best_options(workspace, entry)
    return get_method(entry.cell.method).recipe(entry.cell.resolved(best))


def _with_flops(workspace: Workspace, cost: Cost, recipe: Recipe, experts: int) -> Cost:
    shapes = workspace.estimates
    exact, paper = merge_flops(shapes.layout, shapes.linear, recipe, experts)
    return replace(
        cost,
        flops=exact,
        paper_flops=paper,
        paper_memory=shapes.merging_memory(experts),
    )


unit_task = work_task("unit", score_cells, retries=2)
