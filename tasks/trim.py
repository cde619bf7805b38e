"""Prefect task that finds trim thresholds.

Each density is a step of its own, so that adding one to a grid repeats no other.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mergegrid.statistics.trim import trim_thresholds
from mergegrid.steps import Step
from mergegrid.suites.suite import Progress
from tasks.step import step_task
from tasks.workspace import TRIM, Workspace


def find_threshold(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Find one expert's trim threshold over the whole model."""
    expert = workspace.parameters(step.inputs["expert"])
    pretrained = workspace.parameters(step.inputs["pretrained"])
    task_vector = {
        name: expert[name].float() - pretrained[name].float() for name in expert
    }
    density = step.inputs["density"]
    found = trim_thresholds(task_vector, [density])[density]
    (into / TRIM).write_text(json.dumps(asdict(found), sort_keys=True))
    return {}


trim_task = step_task("trim", find_threshold, heavy=False)
