"""Prefect task that merges and evaluates a unit of cells, in memory, cell by cell.

A unit is a group of cells over the same experts. Experts and statistics are read once,
what the cells have in common is computed once, each merged model is written into the
one model that is evaluated, and each cell is recorded as soon as it is scored.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mergegrid.canonical import canonical_json
from mergegrid.costs import Cost, measure_cost
from mergegrid.engine import merge_flops, sweep
from mergegrid.measured import Statistics
from mergegrid.methods import get_method
from mergegrid.methods.method import Need, Recipe
from mergegrid.statistics.trim import TrimThreshold
from mergegrid.steps import Scored
from storage.tensors import load_tensors
from tasks.choose import best_scale
from tasks.evaluate import evaluate_as
from tasks.progress import News, tell
from tasks.record import cell_row, score_rows
from tasks.step import work_task
from tasks.workspace import NORMS, STATISTIC, TRIM, Workspace


def score_cells(workspace: Workspace, keys: list[str]) -> bool:
    """Merge and evaluate cells over the same experts, recording each when it is done.

    Args:
        workspace: the experiment at its root.
        keys: the cells' keys.

    Returns:
        Whether any had no scores yet.
    """
    done = workspace.ledger.recorded(keys)
    entries = [workspace.steps.scored[key] for key in keys if key not in done]
    if not entries:
        return False
    with measure_cost() as loading:
        experts = {
            name: workspace.parameters(key) for name, key in entries[0].models.items()
        }
        pretrained = workspace.parameters(workspace.steps.pretrain.key)
        statistics = read_statistics(workspace, entries)
        model = workspace.model()
    shared = loading.share(len(entries))
    for seed in sorted({entry.cell.seed for entry in entries}):
        # Two cells that waited for a scale may turn out to be one merge.
        merges: dict[str, tuple[Recipe, list[Scored]]] = {}
        for entry in entries:
            if entry.cell.seed == seed:
                recipe = recipe_of(workspace, entry)
                name = canonical_json(recipe.identity())
                merges.setdefault(name, (recipe, []))[1].append(entry)
        recipes = [recipe for recipe, _ in merges.values()]
        merged_models = sweep(experts, recipes, pretrained, statistics, seed=seed)
        for _ in recipes:
            with measure_cost() as merging:
                recipe, merged = next(merged_models)
                workspace.family.set_parameters(model, merged)
            cost = _with_flops(workspace, merging + shared, recipe, len(experts))
            for entry in merges[canonical_json(recipe.identity())][1]:
                tallies, evaluating = evaluate_as(workspace, model, entry)
                costs = {"merge": cost, "evaluate": evaluating}
                rows = score_rows(workspace.steps, entry, tallies, costs)
                rows.append(cell_row(workspace.steps, entry, recipe.options))
                workspace.ledger.append(entry.step.key, rows)
                tell(News("done", entry.step.key))
    return True


def recipe_of(workspace: Workspace, entry: Scored) -> Recipe:
    """Complete a cell's recipe, looking up the scale that it waited for.

    Args:
        workspace: the experiment at its root.
        entry: the cell.

    Returns:
        The recipe, with a value for every option.
    """
    best = best_scale(workspace, entry.best_of) if entry.best_of else None
    return get_method(entry.cell.method).recipe(entry.cell.resolved(best))


def read_statistics(workspace: Workspace, entries: Sequence[Scored]) -> Statistics:
    """Read the statistics that any of some cells needs.

    Args:
        workspace: the experiment at its root.
        entries: cells over the same experts.

    Returns:
        Kind of statistic to expert to value.
    """
    found: dict[Need, dict[str, Any]] = {}
    for entry in entries:
        for kind, keys in entry.statistics.items():
            values = found.setdefault(Need(kind), {})
            for expert, key in keys.items():
                if kind == Need.TRIM:
                    density = entry.cell.options["density"]
                    thresholds = values.setdefault(expert, {})
                    if density not in thresholds:
                        path = workspace.store.path(key) / TRIM
                        thresholds[density] = TrimThreshold(**_read_json(path))
                elif expert not in values:
                    path = workspace.store.path(key)
                    values[expert] = (
                        _read_json(path / NORMS)
                        if kind == Need.NORMS
                        else load_tensors(path / STATISTIC)
                    )
    return found


def _with_flops(workspace: Workspace, cost: Cost, recipe: Recipe, experts: int) -> Cost:
    shapes = workspace.estimates
    exact, paper = merge_flops(shapes.layout, shapes.linear, recipe, experts)
    return replace(cost, flops=exact, paper_flops=paper)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


unit_task = work_task("unit", score_cells, retries=2)
