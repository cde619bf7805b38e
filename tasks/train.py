"""Prefect tasks that make models: the suite's data, pretrained, experts, multitask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergegrid.steps import Step
from mergegrid.suites.examples import Concatenation, Examples
from mergegrid.suites.suite import Progress, Split
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
    suite = workspace.suite
    model = workspace.family.create(
        suite.architecture(), suite.classes(), seed=workspace.experiment.seed
    )
    record = train(
        model,
        *workspace.data.pretraining(),
        workspace.experiment.training.pretrain,
        seed=workspace.experiment.seed,
        progress=advance,
    )
    workspace.family.save(model, into)
    return taken(workspace, step, record)


def fine_tune(
    settings: TrainingSettings,
    workspace: Workspace,
    step: Step,
    into: Path,
    advance: Progress,
) -> Mapping[str, Any]:
    """Fine-tune the pretrained model on the tasks that a step names."""
    names = [str(task).rpartition("@")[0] for task in step.inputs["tasks"]]
    data = workspace.data

    def all_of(split: Split) -> Examples:
        return Concatenation([data.examples(name, split) for name in names])

    model = workspace.model()
    record = train(
        model,
        all_of("train"),
        all_of("validation"),
        settings,
        seed=workspace.experiment.seed,
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
pretrain_task = step_task("pretrain", pretrain)
train_task = step_task("train", train_expert)
multitask_task = step_task("multitask", train_multitask)
