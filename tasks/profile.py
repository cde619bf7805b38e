"""Prefect tasks that look at task vectors: an expert's alone, and several together."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mergegrid.profiles.distribution import distributions
from mergegrid.profiles.profile import profile
from mergegrid.statistics.trim import TrimThreshold
from mergegrid.steps import Step
from mergegrid.suites.suite import Progress
from tasks.step import step_task
from tasks.workspace import DISTRIBUTION, PROFILE, TRIM, Workspace


def measure_distribution(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure how the entries of an expert's task vector are spread."""
    expert = workspace.parameters(step.inputs["expert"])
    pretrained = workspace.parameters(step.inputs["pretrained"])
    # Experts are stored sorted by name; the pretrained model has its layers in order.
    merged = {name: pretrained[name] for name in pretrained if name in expert}
    found = [asdict(measured) for measured in distributions(expert, merged)]
    (into / DISTRIBUTION).write_text(json.dumps(found, allow_nan=False))
    return {}


def measure_profile(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Profile the task vectors of several experts."""
    keys = step.inputs["experts"]
    trims = {
        expert: {
            float(density): _threshold(workspace, of_experts[expert])
            for density, of_experts in step.inputs["trim"].items()
        }
        for expert in keys
    }
    found = profile(
        {expert: workspace.parameters(key) for expert, key in keys.items()},
        workspace.parameters(step.inputs["pretrained"]),
        trims,
        densities=step.inputs["densities"],
        mask_thresholds=step.inputs["mask_thresholds"],
        device=workspace.device,
    )
    (into / PROFILE).write_text(json.dumps(asdict(found), allow_nan=False))
    return {}


def _threshold(workspace: Workspace, key: str) -> TrimThreshold:
    path = workspace.store.path(key) / TRIM
    return TrimThreshold(**json.loads(path.read_text()))


distribution_task = step_task("distribution", measure_distribution, heavy=False)
profile_task = step_task("profile", measure_profile)
