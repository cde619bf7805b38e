"""Rows of the results ledger about task vectors, made from what profiles hold."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mergegrid.depth import layer_positions
from mergegrid.layer_kinds import layer_kind
from mergegrid.steps import Steps
from tasks.workspace import DISTRIBUTION, PROFILE

Row = dict[str, Any]


def profiled_rows(steps: Steps) -> list[Row]:
    """Say which profiles belong to an experiment.

    Args:
        steps: the experiment's steps.

    Returns:
        Rows of `profiles`.
    """
    return [
        {
            "table": "profiles",
            "experiment": steps.experiment.name,
            "definition": steps.definition,
            "profile": key,
            "kind": entry.step.name,
            "experts": list(entry.experts),
            "size": len(entry.experts),
            "sample": entry.sample,
        }
        for key, entry in steps.profiled.items()
    ]


def payload_rows(key: str, payloads: Path) -> list[Row]:
    """Read what a profile holds.

    Args:
        key: the step's key.
        payloads: the directory of its artifact.

    Returns:
        Rows of `task_vectors`, or of `conflicts`, `magnitudes`, `agreements` and
        `masks`; none for other steps.
    """
    for name, describe in ((DISTRIBUTION, _spread), (PROFILE, _together)):
        if (payloads / name).is_file():
            held = json.loads((payloads / name).read_text())
            return [{**row, "profile": key} for row in describe(held)]
    return []


def _spread(held: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    places = layer_positions(row["parameter"] for row in held)
    for place, row in enumerate(held):
        depth, layers = places.get(row["parameter"], (None, None))
        yield {
            "table": "task_vectors",
            "place": place,
            "layer_kind": layer_kind(row["parameter"]),
            "depth": depth,
            "layers": layers,
            **row,
        }


def _together(held: Mapping[str, Any]) -> Iterator[Row]:
    for density, counts in held["conflicts"].items():
        yield {"table": "conflicts", "density": float(density), **counts}
    for density, found in held["magnitudes"].items():
        for row in found:
            yield {"table": "magnitudes", "density": float(density), **row}
    for row in held["agreements"]:
        shared = {name: row[name] for name in ("merge_by", "density", "mask_threshold")}
        for tasks, entries in enumerate(row["agreeing"]):
            yield {"table": "agreements", **shared, "tasks": tasks, "entries": entries}
        for task, entries in zip(held["experts"], row["selected"], strict=True):
            yield {"table": "masks", **shared, "task": task, "entries": entries}
