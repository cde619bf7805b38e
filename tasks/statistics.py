"""Reading what was measured on experts, or learned of them, for a merge to take."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mergegrid.measured import Statistics
from mergegrid.methods.needs import Need
from mergegrid.methods.options import Option
from mergegrid.methods.per_expert import each
from mergegrid.statistics.trim import TrimThreshold
from mergegrid.steps import TOGETHER, Scored
from storage.tensors import load_tensors
from tasks.workspace import COEFFICIENTS, NORMS, STATISTIC, TRIM, Workspace


def read_statistics(workspace: Workspace, entries: Sequence[Scored]) -> Statistics:
    """Read what was measured on single experts and any of some cells needs.

    Args:
        workspace: the experiment at its root.
        entries: cells over the same experts.

    Returns:
        Kind of statistic to expert to value.
    """
    found: dict[Need, dict[str, Any]] = {}
    for entry in entries:
        single = {k: v for k, v in entry.statistics.items() if TOGETHER not in v}
        read_into(found, workspace, single, entry.cell.options)
    return found


def read_joint(workspace: Workspace, entry: Scored) -> Statistics:
    """Read what a cell takes that is of all its experts together.

    Args:
        workspace: the experiment at its root.
        entry: the cell, or any other with the same `joint_keys`.

    Returns:
        Kind of statistic to `TOGETHER` to value.
    """
    found: dict[Need, dict[str, Any]] = {}
    joint = {k: v for k, v in entry.statistics.items() if TOGETHER in v}
    read_into(found, workspace, joint, entry.cell.options)
    return found


def read_into(
    found: dict[Need, dict[str, Any]],
    workspace: Workspace,
    statistics: Mapping[str, Mapping[str, str]],
    options: Mapping[str, Option],
) -> None:
    """Read statistics that have not been read.

    Args:
        found: what has been read, by kind and expert.
        workspace: the experiment at its root.
        statistics: kind to expert to the key of what to read; see `Scored`.
        options: those of the merge that they are for.
    """
    for kind, keys in statistics.items():
        values = found.setdefault(Need(kind), {})
        for number, (expert, key) in enumerate(keys.items()):
            if kind == Need.TRIM:
                density = each("density", options["density"], len(keys))[number]
                thresholds = values.setdefault(expert, {})
                if density not in thresholds:
                    written = _read_json(workspace, key, TRIM)
                    thresholds[density] = TrimThreshold(**written)
            elif expert not in values:
                values[expert] = _read(workspace, kind, key)


def joint_keys(entry: Scored) -> tuple[str, ...]:
    """Tell cells that can be merged together from those that cannot.

    Args:
        entry: a cell.

    Returns:
        The keys of what it takes that is of all its experts together.
    """
    return tuple(
        keys[TOGETHER] for keys in entry.statistics.values() if TOGETHER in keys
    )


def _read(workspace: Workspace, kind: str, key: str) -> dict[str, Any]:
    match kind:
        case Need.NORMS:
            return _read_json(workspace, key, NORMS)
        case Need.COEFFICIENTS:
            return load_tensors(workspace.store.path(key) / COEFFICIENTS)
        case Need.SIGNS:
            before = workspace.parameters(workspace.steps.pretrained.key)
            after = workspace.parameters(key)
            return {name: (after[name] - before[name]).sign() for name in after}
        case _:
            return load_tensors(workspace.store.path(key) / STATISTIC)


def _read_json(workspace: Workspace, key: str, name: str) -> dict[str, Any]:
    return json.loads((workspace.store.path(key) / name).read_text())
