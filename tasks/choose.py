"""Options that are chosen by scores: only held-in validation ever chooses."""

from collections.abc import Sequence

from mergegrid.errors import MissingPrerequisiteError
from tasks.workspace import Workspace


def best_scale(workspace: Workspace, keys: Sequence[str]) -> float:
    """Find the scale that task arithmetic does best with on held-in validation.

    Args:
        workspace: the experiment at its root.
        keys: task arithmetic's cells over the same experts.

    Returns:
        The scale with the highest mean accuracy over the held-in tasks; of equal ones
        the smallest, which stays closest to the pretrained model.

    Raises:
        MissingPrerequisiteError: if one of the cells has not been scored.
    """
    means = {key: _validation(workspace, key) for key in keys}
    scales = {key: workspace.steps.scored[key].cell.options["scale"] for key in keys}
    best = max(keys, key=lambda key: (means[key], -scales[key]))
    return float(scales[best])


def _validation(workspace: Workspace, key: str) -> float:
    values = [
        row["value"]
        for row in workspace.ledger.rows(key)
        if row["table"] == "scores" and row["split"] == "validation"
    ]
    if not values:
        raise MissingPrerequisiteError(
            f"The best scale is chosen by {workspace.steps.scored[key].step.label}, "
            "which has not been scored; run the experiment again."
        )
    return sum(values) / len(values)
