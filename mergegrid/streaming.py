"""Streaming: from files to files, a stretch at a time, whatever the models' size.

Reading runs ahead in one thread and writing behind in another, while this one computes.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mergegrid.blocks import Block
from mergegrid.cohort import Cohort
from mergegrid.errors import InputError, NonFiniteError
from mergegrid.finish import Finishing, norm_factors
from mergegrid.layout import Layout
from mergegrid.methods.method import Recipe
from mergegrid.parameters import Role
from mergegrid.passes import merge_pass
from mergegrid.sources import TensorInfo
from mergegrid.surveying import Measurements, measure
from mergegrid.variant import Variant, Whole
from mergegrid.writing import Sink, Writer

RecipeOf = Callable[[str], Recipe]
"""Parameter to the recipe that it is merged by."""

Progress = Callable[[int, int], None]
"""Takes how many entries are merged, and of how many."""


def output_infos(
    layout: Layout, dtype: torch.dtype | None = None
) -> dict[str, TensorInfo]:
    """Tell what a merged model consists of.

    Args:
        layout: of the models that are merged.
        dtype: the type of its floating-point tensors; None for the pretrained model's,
            or else the first expert's.

    Returns:
        Every tensor by name.
    """
    return {
        name: TensorInfo(
            info.shape, dtype if dtype and info.dtype.is_floating_point else info.dtype
        )
        for name, info in layout.infos.items()
    }


def stream(
    cohort: Cohort,
    recipe: Recipe | RecipeOf,
    sinks: Mapping[str | None, Sink],
    *,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> None:
    """Merge models from files to files.

    What is written is what `mergegrid.merge` returns, bit for bit.

    Args:
        cohort: the experts; everything that the recipe needs has been checked.
        recipe: the recipe, or one for each parameter; then every parameter is merged as
            if it were a model of its own.
        sinks: where to write. One under None; for methods that yield a model for each
            task, one under each expert whose model is wanted.
        dtype: see `output_infos`.
        progress: told how far it is.

    Raises:
        InputError: if parameters have recipes of their own that are about the model as
            a whole.
        NonFiniteError: if there is NaN or infinity in a model, or a merged number is
            too large for float16.
    """
    finishing = Finishing(cohort, dtype)
    recipes = {
        name: recipe if isinstance(recipe, Recipe) else recipe(name)
        for name in cohort.parameters
    }
    variants = {name: cohort.variant(of) for name, of in recipes.items()}
    if isinstance(recipe, Recipe):
        uniform = cohort.variant(recipe)
        cohort.explain(uniform)
        variants = dict.fromkeys(variants, uniform)
        found = measure(cohort, [uniform])
        factors = measure_norm_factors(cohort, uniform, found)
    else:
        for name, variant in variants.items():
            _refuse_whole_model(name, variant)
        found = Measurements({0: Whole()})
        factors = [1.0] * len(cohort.experts)
    total = sum(cohort.layout.entries(name) for name in cohort.parameters)
    done = 0
    rows = {expert: row for row, expert in enumerate(cohort.experts)}
    with Writer(_aliases(cohort)) as writer:

        def emit(_: int, block: Block, stretch: Tensor) -> None:
            nonlocal done
            name = block.name
            is_scaled = variants[name].method.scale is not None
            base = block.pretrained().reshape(-1) if is_scaled else None
            for task, sink in sinks.items():
                merged = stretch if task is None else stretch[rows[task]]
                factor = factors[0 if task is None else rows[task]]
                finished = finishing.stretch(recipes[name], name, merged, base, factor)
                refuse_overflow(name, finished)
                writer.write([sink], name, block.start, finished)
            done += stretch.shape[-1]
            if progress is not None:
                progress(done, total)

        of_names = {name: {0: variant} for name, variant in variants.items()}
        merge_pass(cohort, of_names, found, emit)
        _write_rest(cohort, finishing, writer, [*sinks.values()])


def _write_rest(
    cohort: Cohort, finishing: Finishing, writer: Writer, sinks: Sequence[Sink]
) -> None:
    layout = cohort.layout
    for name, first in layout.first_name.items():
        if first != name:
            continue
        if layout.roles[name] is Role.AVERAGED:
            writer.write(sinks, name, 0, finishing.averaged(name))
        rest = finishing.rest(name)
        if rest is not None:
            start = layout.infos[name].entries - rest.numel()
            writer.write(sinks, name, start, rest)


def refuse_overflow(name: str, finished: Tensor) -> None:
    """Check that merged numbers fit into the merged model's type.

    Args:
        name: the parameter.
        finished: a stretch of it.

    Raises:
        NonFiniteError: if one does not.
    """
    if finished.dtype == torch.float16 and not bool(finished.isfinite().all()):
        raise NonFiniteError(
            f"The merged {name!r} has numbers that float16 cannot hold; write it in "
            f"another type."
        )


def _refuse_whole_model(name: str, variant: Variant) -> None:
    method, options = variant.method, variant.options
    asks = "norms" in method.asked or method.trims(options)
    surveys = [
        survey
        for survey in method.surveys.values()
        if survey.is_asked(options) and not survey.is_per_tensor(options)
    ]
    is_own = options.get("scope") == "tensor"
    if (surveys or (asks and not is_own)) or options.get("match_norm"):
        raise InputError(
            f"{method.name} for {name!r} alone is about the whole model; with a recipe "
            f"for each parameter, its scope must be tensor."
        )


def measure_norm_factors(
    cohort: Cohort, variant: Variant, found: Measurements
) -> list[float]:
    """Merge once to tell the factor on the scale that `match_norm` asks for.

    Args:
        cohort: the experts.
        variant: the merge.
        found: from `measure`, for this variant alone.

    Returns:
        One factor; of methods that yield a model for each task, one for each expert. 1
        without that option.
    """
    models = len(cohort.experts) if variant.method.per_task else 1
    if not variant.options.get("match_norm"):
        return [1.0] * models
    lengths = torch.zeros(models, dtype=torch.float64)

    def add(_: int, __: Block, stretch: Tensor) -> None:
        lengths.add_(stretch.abs().sum(dim=-1, dtype=torch.float64).reshape(-1).cpu())

    merge_pass(cohort, {name: {0: variant} for name in cohort.parameters}, found, add)
    return norm_factors(cohort, variant, lengths.tolist())


def _aliases(cohort: Cohort) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, first in cohort.layout.first_name.items():
        names.setdefault(first, []).append(name)
    return names
