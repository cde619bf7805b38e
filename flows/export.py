"""A cell's model, made again from the artifacts that it was made from."""

import json
from pathlib import Path
from typing import Any

from mergegrid.directories import new_directory
from mergegrid.engine import sweep
from mergegrid.errors import InputError
from mergegrid.experiment import Experiment
from mergegrid.experiment_steps import build_steps
from storage.results import Results
from storage.root import Root
from tasks.merge import read_statistics, recipe_of
from tasks.workspace import Workspace

_DOCUMENT = """
    SELECT experiments.document, cells.kind, cells.method
    FROM cells
    JOIN experiments USING (experiment, definition)
    WHERE cells.cell = ?
    LIMIT 1
"""

CELL_FILE = "cell.json"
"""What the model is, and what it was made from."""


def export(
    root: Root,
    results: Results,
    key: str,
    out: Path,
    *,
    rank: int | None = None,
    force: bool = False,
) -> dict[str, float]:
    """Merge once more what a cell merged, and write the model.

    Args:
        root: where the artifacts are.
        results: the database, up to date.
        key: the cell's key.
        out: the directory to make; it appears when it is complete. It loads as the
            pretrained model does; with a method that yields a model for each task, it
            holds a directory for each.
        rank: to write the model as an adapter of the pretrained one, the changes of its
            weights cut to that rank; None to write it as a full model.
        force: whether it takes the place of a directory that is there.

    Returns:
        Of adapters, the relative error that cutting makes, by task if there are several
        models, else by "".

    Raises:
        InputError: if there is no such cell, or something is in the way.
        StorageError: if an artifact is gone, or the directory cannot be written.
    """
    workspace = _workspace(root, results, key)
    entry = workspace.steps.scored[key]
    recipe = recipe_of(workspace, entry)
    experts = {name: workspace.parameters(k) for name, k in entry.models.items()}
    pretrained = workspace.parameters(workspace.steps.pretrained.key)
    models = sweep(
        experts,
        [recipe],
        pretrained,
        read_statistics(workspace, [entry]),
        subsets=[tuple(entry.models)],
        seed=entry.cell.seed,
    )
    about: dict[str, Any] = {
        "cell": key,
        "experiment": workspace.experiment.name,
        "root": root.url,
        "recipe": recipe.identity(),
        "experts": dict(entry.models),
        "pretrained": workspace.steps.pretrained.key,
        "statistics": {kind: dict(of) for kind, of in entry.statistics.items()},
        "seed": entry.cell.seed,
    }
    errors: dict[str, float] = {}
    with new_directory(out, force=force) as made:
        for merged in models:
            directory = made / (merged.task or "")
            directory.mkdir(parents=True, exist_ok=True)
            model = workspace.model(merged.parameters)
            if rank is None:
                workspace.family.save(model, directory)
            else:
                errors[merged.task or ""] = workspace.family.save_adapter(
                    model, pretrained, directory, rank=rank
                )
        if rank is not None:
            about["adapter"] = {"rank": rank, "relative_error": errors}
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (made / CELL_FILE).write_text(f"{text}\n", encoding="utf-8")
    return errors


def _workspace(root: Root, results: Results, key: str) -> Workspace:
    _, rows = results.query(_DOCUMENT, [key])
    if not rows:
        raise InputError(
            f"There is no cell {key!r} in {root.url}; "
            'find one with: python -m flows sql "SELECT cell, method FROM cells"'
        )
    ((document, kind, method),) = rows
    if kind == "reference":
        raise InputError(f"Nothing was merged in {key}: it scores {method} models.")
    experiment = Experiment.model_validate_json(document)
    steps = build_steps(experiment)
    if key not in steps.scored:
        raise InputError(
            f"{key} was made by another version of mergegrid, and cannot be made again "
            "by this one; run the experiment again."
        )
    return Workspace(experiment, steps, root)
