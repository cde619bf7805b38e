"""Prefect tasks that learn: coefficients of task vectors, and few-shot models."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mergegrid.engine import merge
from mergegrid.evaluation import Tally, evaluate
from mergegrid.learning.learn import learn_coefficients
from mergegrid.learning.learned import Learned
from mergegrid.learning.sampling import draw_share
from mergegrid.methods import get_method
from mergegrid.methods.needs import Need
from mergegrid.steps import Step
from mergegrid.suites.examples import Concatenation, Examples, Some
from mergegrid.suites.suite import Progress
from mergegrid.training import train
from storage.checkpoints import Checkpoints
from storage.tensors import save_tensors
from tasks.statistics import read_into
from tasks.step import step_task
from tasks.train import taken
from tasks.workspace import COEFFICIENTS, LEARNED, PARAMETERS, Workspace


def learn(
    workspace: Workspace, step: Step, into: Path, advance: Progress
) -> Mapping[str, Any]:
    """Learn the coefficients of a merge."""
    written = step.inputs["recipe"]
    recipe = get_method(written["method"]).recipe(written["options"])
    model = workspace.model()
    split = recipe.options["split"]
    statistics: dict[Need, dict[str, Any]] = {}
    read_into(statistics, workspace, step.inputs["statistics"], recipe.options)
    checkpoint = Checkpoints(workspace.root, step.key)
    coefficients, learned = learn_coefficients(
        model,
        {
            expert: workspace.parameters(key)
            for expert, key in step.inputs["experts"].items()
        },
        recipe,
        workspace.family.merged_parameters(model),
        {
            task: workspace.examples(model, task, split)
            for task in step.inputs["experts"]
        },
        statistics,
        seed=step.inputs["seed"],
        hold=workspace.experiment.task_vectors,
        checkpoint=checkpoint,
        progress=advance,
    )
    save_tensors(into / COEFFICIENTS, coefficients)
    facts = _facts(list(step.inputs["experts"]), list(coefficients), learned)
    (into / LEARNED).write_text(facts)
    checkpoint.remove()
    estimates = workspace.estimates
    return {
        "flops": estimates.learning_flops(
            updates=learned.steps,
            examples=learned.examples,
            looked_at=learned.looked_at,
            experts=learned.together,
        ),
        "paper_memory": estimates.learning_memory(
            trained=learned.trained, together=learned.together
        ),
        "examples": learned.examples,
        "labelled": learned.labelled,
        "unlabelled": learned.unlabelled,
    }


def _facts(experts: list[str], parameters: list[str], learned: Learned) -> str:
    return json.dumps(
        {
            "experts": experts,
            "parameters": parameters,
            "history": [asdict(look) for look in learned.history],
            "steps": learned.steps,
            "trained": learned.trained,
            "together": learned.together,
            "collapsed": learned.collapsed,
        },
        sort_keys=True,
    )


def train_few_shot(
    workspace: Workspace, step: Step, into: Path, advance: Progress
) -> Mapping[str, Any]:
    """Train a multitask model on a few examples of each task."""
    settings = workspace.experiment.training.few_shot
    assert settings is not None, "the step is there because it is"
    seed = workspace.experiment.seed
    average = step.inputs["average"]
    start = None
    if average:
        start = merge([workspace.parameters(key) for key in average], "average")
    model = workspace.model(start)
    chosen: list[Examples] = []
    for versioned in step.inputs["tasks"]:
        task = str(versioned).rpartition("@")[0]
        there = workspace.examples(model, task, settings.split)
        share = draw_share(
            task, len(there), examples=settings.examples, holdout=0.0, seed=seed
        )
        chosen.append(Some(there, share.learned))
    examples = Concatenation(chosen)

    def validate(model: torch.nn.Module) -> Tally:
        size = workspace.experiment.batch_size
        return evaluate(model, examples, batch_size=size)

    with workspace.family.adapting(model, seed=seed):
        record = train(model, examples, validate, settings, seed=seed, progress=advance)
    save_tensors(into / PARAMETERS, workspace.family.merged_parameters(model))
    return taken(workspace, step, record)


learn_task = step_task("learn", learn)
few_shot_task = step_task("few_shot", train_few_shot)
