"""Prefect tasks that measure statistics of one expert on its data, and its norms."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mergegrid.experiment import FisherSettings, GramSettings
from mergegrid.statistics.fisher import diagonal_fisher
from mergegrid.statistics.gram import gram_matrices
from mergegrid.statistics.kfac import output_gradient_grams
from mergegrid.statistics.norms import squared_norms
from mergegrid.steps import Step
from mergegrid.suites.examples import Examples
from mergegrid.suites.suite import Progress
from storage.tensors import save_tensors
from tasks.step import step_task
from tasks.workspace import NORMS, STATISTIC, Workspace


def measure_fisher(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure an expert's diagonal Fisher information on its own task."""
    settings = workspace.experiment.statistics.fisher
    return _by_label(diagonal_fisher, settings, workspace, step, into)


def measure_gram(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure the Gram matrices of an expert's layer inputs on its own task."""
    settings = workspace.experiment.statistics.gram
    model, examples = _expert(workspace, step, settings)
    measured = gram_matrices(
        model,
        examples,
        limit=settings.examples,
        batch_size=workspace.experiment.batch_size,
    )
    save_tensors(into / STATISTIC, measured)
    return {}


def measure_gradient(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure the Gram matrices of an expert's output gradients on its own task."""
    settings = workspace.experiment.statistics.gradient
    return _by_label(output_gradient_grams, settings, workspace, step, into)


def measure_norms(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Measure the squared norm of every parameter of an expert."""
    parameters = workspace.parameters(step.inputs["expert"])
    norms = squared_norms(parameters)
    (into / NORMS).write_text(json.dumps(norms, sort_keys=True))
    return {}


def _by_label(
    measure: Callable[..., dict[str, Tensor]],
    settings: FisherSettings,
    workspace: Workspace,
    step: Step,
    into: Path,
) -> Mapping[str, Any]:
    model, examples = _expert(workspace, step, settings)
    measured = measure(
        model,
        examples,
        variant=settings.variant,
        limit=settings.examples,
        positions=settings.positions,
        batch_size=workspace.experiment.batch_size,
        seed=workspace.experiment.seed,
    )
    save_tensors(into / STATISTIC, measured)
    return {}


def _expert(
    workspace: Workspace,
    step: Step,
    settings: FisherSettings | GramSettings,
) -> tuple[nn.Module, Examples]:
    model = workspace.model(workspace.parameters(step.inputs["expert"]))
    return model, workspace.examples(model, step.inputs["task"], settings.split)


fisher_task = step_task("fisher", measure_fisher)
gram_task = step_task("gram", measure_gram)
gradient_task = step_task("gradient", measure_gradient)
norms_task = step_task("norms", measure_norms, heavy=False)
