"""Options that are chosen by scores: only held-in validation ever chooses."""

from collections.abc import Sequence

from mergegrid.errors import MissingPrerequisiteError
from mergegrid.methods import get_method
from mergegrid.methods.options import Option
from mergegrid.steps import Scored
from tasks.workspace import Workspace


def best_options(workspace: Workspace, entry: Scored) -> dict[str, Option]:
    """Find the values that a cell's options waited for.

    Args:
        workspace: the experiment at its root.
        entry: the cell.

    Returns:
        Each option with the value that has the highest mean accuracy over the held-in
        tasks' validation splits, or, where every task chooses for itself, with one
        value for each expert. Of equal ones the smallest, which stays closest to the
        pretrained model.

    Raises:
        MissingPrerequisiteError: if one of the cells that choose has not been scored.
    """
    choices = get_method(entry.cell.method).best
    found: dict[str, Option] = {}
    for option, keys in entry.best_of.items():
        scores = {key: _validation(workspace, key) for key in keys}
        choice = choices[option]
        values = {
            key: workspace.steps.scored[key].cell.options[choice.option] for key in keys
        }
        if choice.per_task:
            found[option] = tuple(
                _best(values, {key: scores[key][task] for key in keys}, keys)
                for task in entry.cell.experts
            )
        else:
            means = {key: sum(of.values()) / len(of) for key, of in scores.items()}
            found[option] = _best(values, means, keys)
    return found


def _best(
    values: dict[str, Option], scores: dict[str, float], keys: Sequence[str]
) -> float:
    return float(values[max(keys, key=lambda key: (scores[key], -values[key]))])


def _validation(workspace: Workspace, key: str) -> dict[str, float]:
    values = {
        row["task"]: row["value"]
        for row in workspace.ledger.rows(key)
        if row["table"] == "scores" and row["split"] == "validation"
    }
    if not values:
        raise MissingPrerequisiteError(
            f"An option is chosen by {workspace.steps.scored[key].step.label}, "
            "which has not been scored; run the experiment again."
        )
    return values
