"""Prefect task that evaluates models for reference, and what all evaluation shares."""

from torch import nn

from mergegrid.costs import Cost, measure_cost
from mergegrid.evaluation import Tally, evaluate_tasks
from mergegrid.steps import Scored
from mergegrid.suites.suite import Split
from storage.turns import turn
from tasks.progress import News, tell
from tasks.record import cell_row, score_rows
from tasks.step import work_task
from tasks.stored import reference_parts, storage_rows
from tasks.workspace import Workspace


def evaluate_as(
    workspace: Workspace, model: nn.Module, entry: Scored, task: str | None = None
) -> tuple[dict[tuple[str, Split], Tally], Cost]:
    """Evaluate a model on the tasks that count for a cell.

    Those are the held-in tasks of the experts that were merged - their validation
    split, by which options are chosen, and their test split - and the test split of
    every generalization task. Held-in tasks of other experts do not count.

    Args:
        workspace: the experiment at its root.
        model: the model.
        entry: the cell, or the model for reference.
        task: the one task that the model is for, where a cell has one for each.

    Returns:
        (task, split) to what was counted, and the cost.
    """
    tasks = workspace.steps.tasks
    if task is not None:
        return _evaluate(workspace, model, [(task, "validation"), (task, "test")])
    held_in = entry.cell.experts or [task.name for task in tasks if task.held_in]
    splits: dict[Split, list[str]] = {
        "validation": list(held_in),
        "test": [*held_in, *(task.name for task in tasks if not task.held_in)],
    }
    wanted: list[tuple[str, Split]] = [
        (name, split) for split, names in splits.items() for name in names
    ]
    return _evaluate(workspace, model, wanted)


def _evaluate(
    workspace: Workspace, model: nn.Module, wanted: list[tuple[str, Split]]
) -> tuple[dict[tuple[str, Split], Tally], Cost]:
    with measure_cost() as cost:
        examples = {name: workspace.test_examples(model, *name) for name in wanted}
        metrics = {name: workspace.metrics[name[0]] for name in wanted}
        tallies = evaluate_tasks(
            model, examples, metrics=metrics, batch_size=workspace.experiment.batch_size
        )
    cost.examples = sum(tally.examples for tally in tallies.values())
    cost.flops = workspace.estimates.forward_flops * cost.examples
    return tallies, cost


def score_references(workspace: Workspace, keys: list[str]) -> bool:
    """Evaluate the pretrained model, experts or the multitask model, and record each.

    Args:
        workspace: the experiment at its root.
        keys: keys of the models' scores.

    Returns:
        Whether any had no scores yet.
    """
    with turn(workspace.root, keys):
        done = workspace.ledger.recorded(keys)
        unscored = [key for key in keys if key not in done]
        _score(workspace, unscored)
    return bool(unscored)


def _score(workspace: Workspace, keys: list[str]) -> None:
    for key in keys:
        entry = workspace.steps.scored[key]
        (model_key,) = entry.models.values()
        parameters = workspace.parameters(model_key)
        model = workspace.model(parameters)
        tallies, cost = evaluate_as(workspace, model, entry)
        rows = score_rows(workspace.steps, entry, tallies, {"evaluate": cost})
        rows.append(cell_row(workspace.steps, entry, {}))
        parts = reference_parts(workspace, model, entry, parameters)
        workspace.ledger.append(key, [*rows, *storage_rows(key, parts)])
        tell(News("done", key))


score_task = work_task("evaluate", score_references, retries=1)
