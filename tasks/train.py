"""Prefect tasks that make data and models: pretrained, experts, multitask."""

import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mergegrid.evaluation import Tally, evaluate, evaluate_tasks
from mergegrid.steps import Step
from mergegrid.suites.examples import Concatenation
from mergegrid.suites.suite import Progress
from mergegrid.training import TrainingRecord, TrainingSettings, train
from storage.tensors import save_tensors
from tasks.step import step_task
from tasks.workspace import PARAMETERS, Workspace


def prepare_data(
    workspace: Workspace, _step: Step, into: Path, advance: Progress
) -> Mapping[str, Any]:
    """Draw or fetch the suite's data."""
    workspace.suite.prepare(into, progress=advance)
    return {}


def pretrain(
    workspace: Workspace, step: Step, into: Path, advance: Progress
) -> Mapping[str, Any]:
    """Train the model that all experts start from."""
    family, experiment = workspace.family, workspace.experiment
    settings = experiment.training.pretrain
    assert settings is not None, "the step is there because it is"
    model = family.create(workspace.suite.architecture(), seed=experiment.seed)
    train_on, validate_on = (
        family.encode(model, examples) for examples in workspace.data.pretraining()
    )

    def validate(model: nn.Module) -> Tally:
        return evaluate(model, validate_on, batch_size=experiment.batch_size)

    record = train(
        model, train_on, validate, settings, seed=experiment.seed, progress=advance
    )
    family.save(model, into)
    return taken(workspace, step, record)


def import_model(
    workspace: Workspace, step: Step, into: Path, _advance: Progress
) -> Mapping[str, Any]:
    """Take a published model as the pretrained model, or as an expert."""
    suite, family = workspace.suite, workspace.family
    if step.key == workspace.steps.pretrained.key:
        published = suite.pretrained()
        assert published is not None, "the step is there because it is"
        with published.fetched() as directory:
            model = family.import_model(directory, suite.architecture())
        family.save(model, into)
        return {}
    published = suite.expert(step.label)
    assert published is not None, "the step is there because it is"
    with published.fetched() as directory:
        parameters = family.import_expert(
            directory, suite.architecture(), workspace.model()
        )
    save_tensors(into / PARAMETERS, parameters)
    return {}


def fine_tune(
    settings: TrainingSettings | None,
    workspace: Workspace,
    step: Step,
    into: Path,
    advance: Progress,
) -> Mapping[str, Any]:
    """Fine-tune the pretrained model on the tasks that a step names."""
    assert settings is not None, "the step is there because it is"
    names = [str(task).rpartition("@")[0] for task in step.inputs["tasks"]]
    model = workspace.model()
    examples = [workspace.examples(model, name, "train") for name in names]
    validation = {name: workspace.examples(model, name, "validation") for name in names}

    def validate(model: nn.Module) -> Tally:
        tallies = evaluate_tasks(
            model,
            validation,
            metrics=workspace.metrics,
            batch_size=workspace.experiment.batch_size,
        )
        return functools.reduce(operator.add, tallies.values())

    seed = workspace.experiment.seed
    with workspace.family.adapting(model, seed=seed):
        record = train(
            model,
            Concatenation(examples),
            validate,
            settings,
            seed=seed,
            progress=advance,
        )
    save_tensors(into / PARAMETERS, workspace.family.merged_parameters(model))
    return taken(workspace, step, record)


def train_expert(
    workspace: Workspace, step: Step, into: Path, advance: Progress
) -> Mapping[str, Any]:
    """Fine-tune one expert on its own task."""
    settings = workspace.experiment.training.expert
    return fine_tune(settings, workspace, step, into, advance)


def train_multitask(
    workspace: Workspace, step: Step, into: Path, advance: Progress
) -> Mapping[str, Any]:
    """Fine-tune one model on all held-in tasks together."""
    settings = workspace.experiment.training.multitask
    return fine_tune(settings, workspace, step, into, advance)


def taken(
    workspace: Workspace, step: Step, record: TrainingRecord
) -> Mapping[str, Any]:
    """Say what training took, which early stopping makes less than was planned."""
    expected = workspace.estimates.of[step.key]
    flops = expected.flops * record.examples // max(expected.examples, 1)
    return {"flops": flops, "examples": record.examples}


data_task = step_task("data", prepare_data, heavy=False)
import_task = step_task("import", import_model, heavy=False)
pretrain_task = step_task("pretrain", pretrain)
train_task = step_task("train", train_expert)
multitask_task = step_task("multitask", train_multitask)
