"""Rows of the results ledger about learned coefficients."""

import json
from pathlib import Path
from typing import Any

from mergegrid.depth import layer_positions
from mergegrid.layer_kinds import layer_kind
from storage.tensors import load_tensors
from tasks.workspace import COEFFICIENTS, LEARNED

Row = dict[str, Any]


def learned_rows(key: str, payloads: Path) -> list[Row]:
    """Read which coefficients were learned, and how that went.

    Args:
        key: the step's key.
        payloads: the directory of its artifact.

    Returns:
        Rows of `coefficients` and `learning`.
    """
    facts = json.loads((payloads / LEARNED).read_text())
    coefficients = load_tensors(payloads / COEFFICIENTS)
    names = facts["parameters"]
    places = layer_positions(names)
    rows: list[Row] = []
    for place, name in enumerate(names):
        depth, layers = places.get(name, (None, None))
        values = zip(facts["experts"], coefficients[name].tolist(), strict=True)
        rows += [
            {
                "table": "coefficients",
                "step": key,
                "task": task,
                "parameter": name,
                "place": place,
                "layer_kind": layer_kind(name),
                "depth": depth,
                "layers": layers,
                "value": value,
            }
            for task, value in values
        ]
    rows += [
        {
            "table": "learning",
            "step": key,
            "node": look["node"],
            "updates": look["step"],
            "loss": look["loss"],
            "held_out": look["held_out"],
            "labels": look["labels"],
            "collapsed": facts["collapsed"],
            "trained": facts["trained"],
            "together": facts["together"],
        }
        for look in facts["history"]
    ]
    return rows
