"""What a run is expected to fetch and to take, before anything is there."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from flows.plan import Plan, prerequisites
from mergegrid.canonical import canonical_json
from mergegrid.engine import merge_flops
from mergegrid.grid import BEST
from mergegrid.methods import get_method
from mergegrid.steps import Scored
from mergegrid.suites.suite import Fetch
from tasks.workspace import Workspace

ASSUMED_SPEED = 50e12
"""Floating-point operations per second that GPU hours are reckoned with: what an A100
sustains in mixed precision, about a sixth of the 312e12 of its data sheet."""

ADAM_COPIES = 4
"""Training holds parameters, gradients and two moments."""

BYTES_PER_NUMBER = 4
"""Models are held in float32."""

GIGABYTE = 1e9
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Expected:
    """What is still to be fetched and done."""

    fetches: tuple[Fetch, ...]
    """Models and data sets that are not here yet."""

    prepare_flops: int
    """Operations of the steps that leave an artifact."""

    merge_flops: int
    """Operations of the merges."""

    evaluate_flops: int
    """Operations of evaluating merges and models for reference."""

    stored: int
    """Bytes that will be stored."""

    memory: int
    """Bytes of the largest step: training a model, or merging all experts that a cell
    asks for with their statistics; activations and batches come on top."""

    @property
    def flops(self) -> int:
        """Operations in all."""
        return self.prepare_flops + self.merge_flops + self.evaluate_flops

    @property
    def gpu_hours(self) -> float:
        """Hours at `ASSUMED_SPEED`."""
        return self.flops / ASSUMED_SPEED / SECONDS_PER_HOUR


def expected(plan: Plan) -> Expected:
    """Reckon what a plan still takes, from shapes and counts alone.

    Args:
        plan: what is missing.

    Returns:
        The reckoning.
    """
    workspace = plan.workspace
    estimates = workspace.estimates
    missing = [estimates.of[key] for key in sorted(plan.missing)]
    entries = [workspace.steps.scored[key] for key in sorted(plan.unscored)]
    evaluation = _Evaluation(workspace)
    examples = sum(evaluation.examples(entry) for entry in entries)
    merging = _Merging(workspace)
    cells = [entry for entry in entries if not entry.is_reference]
    return Expected(
        fetches=tuple(_fetches(plan)),
        prepare_flops=sum(estimate.flops for estimate in missing),
        merge_flops=sum(merging.flops(entry) for entry in cells),
        evaluate_flops=examples * estimates.forward_flops,
        stored=sum(estimate.bytes for estimate in missing),
        memory=_memory(plan, cells),
    )


def _fetches(plan: Plan) -> Iterable[Fetch]:
    """List what the missing steps that fetch something fetch."""
    workspace = plan.workspace
    suite, steps = workspace.suite, workspace.steps
    if steps.data.key in plan.missing:
        yield from suite.fetches()
    if steps.pretrained.key in plan.missing and (model := suite.pretrained()):
        yield Fetch(model.place, model.bytes, model.licence)
    for task, step in steps.experts.items():
        if step.key in plan.missing and (model := suite.expert(task)):
            yield Fetch(model.place, model.bytes, model.licence)


class _Evaluation:
    """Examples that cells, and models for reference, are evaluated on."""

    def __init__(self, workspace: Workspace) -> None:
        counts = workspace.suite.counts()
        tasks = workspace.steps.tasks
        self._own = {
            task.name: sum(counts[f"{task.name}.{s}"] for s in ("validation", "test"))
            for task in tasks
            if task.held_in
        }
        self._others = sum(counts[f"{t.name}.test"] for t in tasks if not t.held_in)

    def examples(self, entry: Scored) -> int:
        merged = entry.cell.experts or tuple(self._own)
        own = sum(self._own[name] for name in merged)
        return own if entry.is_per_task else own + self._others


class _Merging:
    """Operations of merges, counted once for each recipe and number of experts."""

    def __init__(self, workspace: Workspace) -> None:
        self._shapes = workspace.estimates
        self._counted: dict[str, int] = {}

    def flops(self, entry: Scored) -> int:
        cell = entry.cell
        # A scale that waits for others' scores does not change the operations.
        known = {name: value for name, value in cell.options.items() if value != BEST}
        key = canonical_json([cell.method, known, len(cell.experts)])
        if key not in self._counted:
            recipe = get_method(cell.method).recipe(known)
            shapes = self._shapes
            self._counted[key], _ = merge_flops(
                shapes.layout, shapes.linear, recipe, len(cell.experts)
            )
        return self._counted[key]


def _memory(plan: Plan, cells: list[Scored]) -> int:
    estimates = plan.workspace.estimates
    model = BYTES_PER_NUMBER * sum(
        functools.reduce(int.__mul__, shape, 1) for shape in estimates.layout.values()
    )
    trained = any(line.to_run for line in prerequisites(plan) if _trains(line.name))
    most = 0
    for key, entry in plan.workspace.steps.profiled.items():
        if key in plan.missing:
            most = max(most, (len(entry.experts) + 1) * model)
    for step in plan.steps("learn"):
        # The experts, the model and its pretrained values, and its activations' like.
        most = max(most, (len(step.inputs["experts"]) * 2 + 3) * model)
    for entry in cells:
        keys = [key for kind in entry.statistics.values() for key in kind.values()]
        measured = sum(estimates.of[key].bytes for key in keys)
        # The experts, the pretrained model, and the merged one that is evaluated.
        most = max(most, (len(entry.cell.experts) + 2) * model + measured)
    return max(most, ADAM_COPIES * model * trained)


def _trains(kind: str) -> bool:
    return kind in {"pretrain", "train", "multitask", "few_shot"}
