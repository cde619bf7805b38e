"""Prefect tasks that measure statistics of one expert on its data, and its norms."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.statistics.gram import gram_matrices
from mergegrid.statistics.kfac import output_gradient_grams
from mergegrid.statistics.norms import squared_norms
from mergegrid.steps import Step
from mergegrid.suites.suite import Progress
from storage.tensors import save_tensors
from tasks.step import step_task
from tasks.workspace import NORMS, STATISTIC, Workspace


def measure_fisher(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure an expert's diagonal Fisher information on its own task."""
    settings = workspace.experiment.statistics.fisher
    model = workspace.model(workspace.parameters(step.inputs["expert"]))
    examples = workspace.data.examples(step.inputs["task"], settings.split)
    fisher = diagonal_fisher(
        model,
        examples,
        variant=settings.variant,
        limit=settings.examples,
        seed=workspace.experiment.seed,
    )
    save_tensors(into / STATISTIC, fisher)
    return {}


def measure_gram(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure the Gram matrices of an expert's layer inputs on its own task."""
    settings = workspace.experiment.statistics.gram
    model = workspace.model(workspace.parameters(step.inputs["expert"]))
    examples = workspace.data.examples(step.inputs["task"], settings.split)
    save_tensors(
        into / STATISTIC, gram_matrices(model, examples, limit=settings.examples)
    )
    return {}


def measure_gradient(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure the Gram matrices of an expert's output gradients on its own task."""
    settings = workspace.experiment.statistics.gradient
    model = workspace.model(workspace.parameters(step.inputs["expert"]))
    examples = workspace.data.examples(step.inputs["task"], settings.split)
    gradients = output_gradient_grams(
        model,
        examples,
        variant=settings.variant,
        limit=settings.examples,
        seed=workspace.experiment.seed,
    )
    save_tensors(into / STATISTIC, gradients)
    return {}


def measure_norms(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure the squared norm of every parameter of an expert."""
    parameters = workspace.parameters(step.inputs["expert"])
    norms = squared_norms(parameters)
    (into / NORMS).write_text(json.dumps(norms, sort_keys=True))
    return {}


fisher_task = step_task("fisher", measure_fisher)
gram_task = step_task("gram", measure_gram)
gradient_task = step_task("gradient", measure_gradient)
norms_task = step_task("norms", measure_norms)
