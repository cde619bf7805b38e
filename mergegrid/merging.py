"""Merging stored models: from files to a directory that loads like the models did."""

from contextlib import ExitStack
from pathlib import Path

import torch

from mergegrid.cohort import Cohort
from mergegrid.companions import find_companions, write_companions
from mergegrid.digests import Digests
from mergegrid.directories import new_directory
from mergegrid.errors import InputError
from mergegrid.inputs import Inputs
from mergegrid.merge_report import make_report, write_report
from mergegrid.methods.method import Recipe
from mergegrid.model_card import write_card
from mergegrid.rounding import warn_of_rounding
from mergegrid.safetensors_output import SafetensorsSink
from mergegrid.streaming import Progress, output_infos, stream
from mergegrid.variant import Variant
from mergegrid.writing import Sink


def merge_stored(
    inputs: Inputs, out: Path, *, force: bool = False, progress: Progress | None = None
) -> None:
    """Merge models, a stretch at a time.

    Args:
        inputs: everything that is read.
        out: the directory to make, with the merged model, what the pretrained one (or
            else the first expert) has besides weights, a model card and a report of
            what went in. It appears when everything is in it, or not at all. Where each
            task's model is wanted, there is such a directory for each in it.
        force: whether it takes the place of a directory that is there.
        progress: told how far it is.

    Raises:
        InputError: if `out` is not to be made.
    """
    check_directory(out)
    with (
        new_directory(out, force=force, keep=inputs.local_files()) as made,
        Digests() as digests,
    ):
        cohort = make_cohort(inputs)
        warn_of_rounding(cohort, _variants(inputs, cohort))
        for checkpoint in inputs.checkpoints():
            digests.start(checkpoint)
        directories = {
            task: made / str(task) if inputs.file.is_nested else made
            for task in inputs.file.tasks
        }
        _write_weights(inputs, cohort, directories, progress)
        companions = find_companions(inputs)
        recipes = inputs.file.recipes(cohort.layout.infos)
        parameters = {name: recipes[name] for name in cohort.parameters}
        report = make_report(inputs, digests, parameters)
        for task, directory in directories.items():
            write_companions(companions, directory, inputs.output_dtype())
            own = report if task is None else report | {"task": task}
            write_report(own, directory)
            write_card(own, directory)


def check_directory(out: Path) -> None:
    """Check that something is to be written to a disk.

    Args:
        out: where to.

    Raises:
        InputError: if it is a URL.
    """
    if "://" in str(out) or ":/" in str(out):
        raise InputError(f"{out} is no directory on a disk; write there, then copy it.")


def make_cohort(inputs: Inputs) -> Cohort:
    """Make a cohort of stored models; what the merge needs is there.

    Args:
        inputs: everything that is read.

    Returns:
        The cohort.

    Raises:
        LayoutError: if models or statistics do not fit one another.
        MissingPrerequisiteError: if something is not there.
    """
    cohort = Cohort(
        inputs.expert_sources(),
        None if inputs.pretrained is None else inputs.reference_source(),
        inputs.statistic_sources(),
        seed=inputs.file.seed,
        device=torch.device(inputs.file.device),
        vocabulary=inputs.file.vocabulary,
        running_variance=inputs.file.running_variance,
    )
    for variant in _variants(inputs, cohort):
        cohort.require(variant)
    return cohort


def _variants(inputs: Inputs, cohort: Cohort) -> list[Variant]:
    recipes = inputs.file.recipes(cohort.layout.infos).values()
    return [cohort.variant(recipe) for recipe in {id(r): r for r in recipes}.values()]


def _write_weights(
    inputs: Inputs,
    cohort: Cohort,
    directories: dict[str | None, Path],
    progress: Progress | None,
) -> None:
    dtype = inputs.output_dtype()
    infos = output_infos(cohort.layout, dtype)
    made_by = inputs.file.made_by
    recipes = inputs.file.recipes(cohort.layout.infos)
    with ExitStack() as stack:
        sinks: dict[str | None, Sink] = {}
        for task, directory in directories.items():
            directory.mkdir(exist_ok=True)
            sink = SafetensorsSink(directory, infos, inputs.file.most_bytes)
            sinks[task] = stack.enter_context(sink)
        recipe = made_by if isinstance(made_by, Recipe) else recipes.__getitem__
        stream(cohort, recipe, sinks, dtype=dtype, progress=progress)
