"""Streaming: from files to files, a stretch at a time, whatever the models' size.

Reading runs ahead in one thread and writing behind in another, while this one computes.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from mergegrid.blocks import Whole
from mergegrid.cohort import Cohort, Variant
from mergegrid.errors import InputError
from mergegrid.finish import Finishing, l1_factor
from mergegrid.methods import get_method
from mergegrid.methods.method import Recipe
from mergegrid.parameters import Role
from mergegrid.passes import Measurements, measure, merge_pass
from mergegrid.sources import TensorInfo

STRETCHES_WAITING = 4
"""How many stretches may wait to be written."""

RecipeOf = Callable[[str], Recipe]
"""Parameter to the recipe that it is merged by."""

Progress = Callable[[int, int], None]
"""Takes how many entries are merged, and of how many."""


class Sink(Protocol):
    """Where a merged model is written."""

    def write(self, name: str, start: int, stretch: Tensor) -> None:
        """Write a stretch of a tensor.

        Args:
            name: the tensor's name.
            start: index of the first entry.
            stretch: flat entries, in the tensor's type.
        """
        ...


def output_infos(
    cohort: Cohort, dtype: torch.dtype | None = None
) -> dict[str, TensorInfo]:
    """Tell what a merged model consists of.

    Args:
        cohort: the experts.
        dtype: the type of its floating-point tensors; None for the pretrained model's,
            or else the first expert's.

    Returns:
        Every tensor by name.
    """
    finishing = Finishing(cohort, dtype)
    return {
        name: TensorInfo(info.shape, finishing.type_of(name))
        for name, info in cohort.layout.infos.items()
    }


def stream(
    cohort: Cohort,
    recipe: Recipe | RecipeOf,
    sink: Sink,
    *,
    task: str | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> None:
    """Merge models from files to files.

    What is written is what `mergegrid.merge` returns, bit for bit.

    Args:
        cohort: the experts; everything that the recipe needs has been checked.
        recipe: the recipe, or one for each parameter; then every parameter is merged as
            if it were a model of its own.
        sink: where to write.
        task: for methods that yield a model for each task: the expert.
        dtype: see `output_infos`.
        progress: told how far it is.

    Raises:
        InputError: if parameters have recipes of their own that are about the model as
            a whole.
    """
    finishing = Finishing(cohort, dtype)
    recipes = {
        name: recipe if isinstance(recipe, Recipe) else recipe(name)
        for name in cohort.parameters
    }
    variants = {
        name: Variant(get_method(of.method), of.options) for name, of in recipes.items()
    }
    if isinstance(recipe, Recipe):
        uniform = Variant(get_method(recipe.method), recipe.options)
        cohort.explain(uniform)
        variants = dict.fromkeys(variants, uniform)
        found = measure(cohort, [uniform])
        factor = _norm_factor(cohort, uniform, found)
    else:
        for name, variant in variants.items():
            _refuse_whole_model(name, variant)
        found, factor = Measurements({0: Whole()}), 1.0
    row = None if task is None else list(cohort.experts).index(task)
    total = sum(cohort.layout.entries(name) for name in cohort.parameters)
    done = 0
    with _Writer(sink, _aliases(cohort)) as writer:

        def emit(_: int, name: str, start: int, stretch: Tensor) -> None:
            nonlocal done
            merged = stretch if row is None else stretch[row]
            finished = finishing.stretch(recipes[name], name, start, merged, factor)
            writer.write(name, start, finished)
            done += merged.numel()
            if progress is not None:
                progress(done, total)

        of_names = {name: {0: variant} for name, variant in variants.items()}
        merge_pass(cohort, of_names, found, emit)
        _write_rest(cohort, finishing, writer)


def _write_rest(cohort: Cohort, finishing: Finishing, writer: "_Writer") -> None:
    layout = cohort.layout
    for name, first in layout.first_name.items():
        if first != name:
            continue
        if layout.roles[name] is Role.AVERAGED:
            writer.write(name, 0, finishing.averaged(name))
        rest = finishing.rest(name)
        if rest is not None:
            writer.write(name, layout.infos[name].entries - rest.numel(), rest)


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


def _norm_factor(cohort: Cohort, variant: Variant, found: Measurements) -> float:
    if not variant.options.get("match_norm"):
        return 1.0
    sums: list[float] = []
    merged = 0.0

    def add(_: int, __: str, ___: int, stretch: Tensor) -> None:
        nonlocal merged
        merged += float(stretch.abs().sum(dtype=torch.float64))

    merge_pass(cohort, {name: {0: variant} for name in cohort.parameters}, found, add)
    reading = {name: [variant] for name in cohort.parameters}
    for piece in cohort.pieces(reading):
        for block in cohort.blocks(piece, {}):
            summed = block.raw_task_vectors().sum(dim=0).abs()
            sums.append(float(summed.sum(dtype=torch.float64)))
    return l1_factor(sums, merged, len(cohort.experts))


def _aliases(cohort: Cohort) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, first in cohort.layout.first_name.items():
        names.setdefault(first, []).append(name)
    return names


class _Writer(AbstractContextManager["_Writer"]):
    """Writes in a thread of its own, a tied tensor under each of its names."""

    def __init__(self, sink: Sink, names: Mapping[str, list[str]]) -> None:
        self._sink = sink
        self._names = names
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def write(self, name: str, start: int, stretch: Tensor) -> None:
        while len(self._waiting) >= STRETCHES_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, name, start, stretch))

    def _write(self, name: str, start: int, stretch: Tensor) -> None:
        for alias in self._names[name]:
            self._sink.write(alias, start, stretch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                while self._waiting:
                    self._waiting.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
