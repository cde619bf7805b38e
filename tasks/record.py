"""Rows of the results ledger, made from what steps did.

Rows of a stored step follow from its artifact alone, so that a step whose recording was
cut off is recorded by the next run. Scores of one cell are one record, appended as soon
as the cell is evaluated.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from mergegrid.canonical import canonical_json
from mergegrid.costs import Cost
from mergegrid.evaluation import Tally
from mergegrid.methods.options import Option
from mergegrid.provenance import provenance
from mergegrid.steps import Scored, Step, Steps
from mergegrid.suites.suite import Split
from storage.artifacts import Manifest

Row = dict[str, Any]


def artifact_rows(step: Step, manifest: Manifest) -> list[Row]:
    """Describe a stored step: what it cost, what it holds, what it was made from.

    Args:
        step: the step.
        manifest: its artifact's manifest.

    Returns:
        Rows of `costs`, `artifacts` and `lineage`.
    """
    payloads = manifest.payloads
    return [
        _cost_row(step, step.name, manifest.cost, manifest.provenance)
        | {"recorded_at": manifest.created_at},
        {
            "table": "artifacts",
            "artifact": step.key,
            "step": step.name,
            "version": step.version,
            "inputs": canonical_json(step.inputs),
            "bytes": manifest.size,
            "digest": canonical_json(
                {name: payload.sha256 for name, payload in payloads.items()}
            ),
            "created_at": manifest.created_at,
        },
        *_lineage(step),
    ]


def score_rows(
    steps: Steps,
    entry: Scored,
    tallies: Mapping[tuple[str, Split], Tally],
    costs: Mapping[str, Cost],
) -> list[Row]:
    """Describe an evaluated model: its scores, its costs and what it was made from.

    Args:
        steps: the experiment's steps.
        entry: the cell, or the model for reference.
        tallies: (task, split) to what was counted.
        costs: stage (`merge`, `evaluate`) to its cost.

    Returns:
        Rows of `scores`, `costs` and `lineage`.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    of = {task.name: task for task in steps.tasks}
    rows: list[Row] = [
        {
            "table": "scores",
            "cell": entry.step.key,
            "task": task,
            "split": split,
            "metric": of[task].metric,
            "role": "held_in" if of[task].held_in else "generalization",
            "correct": tally.correct,
            "examples": tally.examples,
            "value": tally.value,
            "standard_error": tally.standard_error,
        }
        for (task, split), tally in tallies.items()
    ]
    facts = provenance()
    rows += [
        _cost_row(entry.step, stage, asdict(cost), facts) | {"recorded_at": now}
        for stage, cost in costs.items()
    ]
    return rows + _lineage(entry.step)


def cell_row(steps: Steps, entry: Scored, options: Mapping[str, Option]) -> Row:
    """Say that a cell belongs to an experiment.

    Args:
        steps: the experiment's steps.
        entry: the cell, or the model for reference.
        options: its options, none of them waiting.

    Returns:
        A row of `cells`.
    """
    cell = entry.cell
    return {
        "table": "cells",
        "experiment": steps.experiment.name,
        "definition": steps.definition,
        "cell": entry.step.key,
        "kind": _kind(entry),
        "method": cell.method,
        "method_version": cell.version,
        "options": canonical_json(options),
        "swept": canonical_json({name: options[name] for name in cell.swept}),
        "experts": list(cell.experts),
        "size": len(cell.experts),
        "sample": cell.sample,
        "seed": cell.seed,
    }


def _kind(entry: Scored) -> str:
    if entry.is_reference:
        return "reference"
    return "per_task" if entry.is_per_task else "merged"


def experiment_row(steps: Steps) -> Row:
    """Say which definition of an experiment is the current one, from now on.

    Args:
        steps: the experiment's steps.

    Returns:
        A row of `experiments`.
    """
    facts = provenance()
    return {
        "table": "experiments",
        "experiment": steps.experiment.name,
        "definition": steps.definition,
        "suite": steps.experiment.suite["name"],
        "document": canonical_json(steps.experiment.model_dump(mode="json")),
        "git_commit": facts["git_commit"],
        "git_dirty": facts["git_dirty"],
        "versions": canonical_json(facts["versions"]),
        "recorded_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _cost_row(
    step: Step, stage: str, cost: Mapping[str, Any], facts: Mapping[str, Any]
) -> Row:
    return {
        "table": "costs",
        "step": step.key,
        "stage": stage,
        **cost,
        "device": facts["device"],
        "git_commit": facts["git_commit"],
        "git_dirty": facts["git_dirty"],
        "versions": canonical_json(facts["versions"]),
    }


def _lineage(step: Step) -> list[Row]:
    return [
        {"table": "lineage", "child": step.key, "parent": parent}
        for parent in sorted(set(step.parents))
    ]
