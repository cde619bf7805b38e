"""What an experiment would run, known from keys and two listings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mergegrid.steps import PROFILES, STATISTICS, Scored, Step
from tasks.workspace import Workspace

FEWEST_CELLS = 16
MOST_CELLS = 128
"""A unit of work holds so many cells, save that a method's sweep stays together:
enough to share what they have in common, few enough to spread over workers."""

UNITS_WANTED = 96
"""Units that a large grid is cut into; a Prefect task run each."""


@dataclass(frozen=True)
class Plan:
    """What is missing, and what is there."""

    workspace: Workspace
    missing: frozenset[str]
    """Keys of artifacts to make."""

    unscored: frozenset[str]
    """Keys of cells and reference models to score."""

    unrecorded: frozenset[str]
    """Keys of artifacts that exist but have no rows in the ledger."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.missing or self.unscored or self.unrecorded)

    def steps(self, *names: str) -> list[Step]:
        """List the steps of some kinds that have to run.

        Args:
            *names: kinds of steps.

        Returns:
            Those whose artifact is missing, in order.
        """
        return [
            step
            for step in self.workspace.steps.named(*names)
            if step.key in self.missing
        ]

    def references(self, keys: Collection[str] | None = None) -> list[Scored]:
        """List the models for reference that have to be scored.

        Args:
            keys: those to choose from; None for all.

        Returns:
            Their entries.
        """
        return [entry for entry in self._entries(keys) if entry.is_reference]

    def units(self, keys: Collection[str] | None = None) -> list[list[Scored]]:
        """Group the cells that have to be scored into units of work.

        The cells of a unit are over the same experts, or over subsets of one nested
        sample, which share sums; all or none of them wait for other cells' scores. A
        method's sweep is not cut.

        Args:
            keys: cells to choose from; None for all.

        Returns:
            The units; those that others wait for come first.
        """
        cells = [entry for entry in self._entries(keys) if not entry.is_reference]
        size = min(MOST_CELLS, max(FEWEST_CELLS, len(cells) // UNITS_WANTED))
        sweeps: dict[tuple[object, ...], list[Scored]] = {}
        for entry in cells:
            cell = entry.cell
            shared = (bool(cell.waits), cell.experts, cell.method, cell.seed)
            sweeps.setdefault(shared, []).append(entry)
        units: dict[tuple[object, ...], list[list[Scored]]] = {}
        for (waits, experts, *_), sweep in sweeps.items():
            sample = sweep[0].cell.sample
            group = units.setdefault((waits, sample or experts), [[]])
            if group[-1] and len(group[-1]) + len(sweep) > size:
                group.append([])
            group[-1].extend(sweep)
        ordered = [unit for group in units.values() for unit in group]
        awaited = {
            key for entry in cells for keys in entry.best_of.values() for key in keys
        }
        return sorted(
            ordered, key=lambda unit: not any(e.step.key in awaited for e in unit)
        )

    def _entries(self, keys: Collection[str] | None = None) -> list[Scored]:
        wanted = self.unscored if keys is None else self.unscored.intersection(keys)
        scored = self.workspace.steps.scored
        return [scored[key] for key in scored if key in wanted]


def make_plan(workspace: Workspace) -> Plan:
    """Compare an experiment's keys with what the root holds.

    Args:
        workspace: the experiment at its root.

    Returns:
        The plan.
    """
    steps = workspace.steps
    artifacts = set(steps.artifacts)
    missing = workspace.store.missing(artifacts)
    recorded = workspace.ledger.units()
    return Plan(
        workspace,
        missing=frozenset(missing),
        unscored=frozenset(set(steps.scored) - recorded),
        unrecorded=frozenset(artifacts - missing - recorded),
    )


@dataclass(frozen=True)
class Prerequisite:
    """A kind of step that cells share, with what it is expected to cost."""

    name: str
    steps: int
    to_run: int
    flops: int
    """Expected floating-point operations of all its steps."""

    bytes: int
    """Expected size of all its artifacts."""

    cells: int
    """Cells that need at least one of its steps."""


def prerequisites(plan: Plan) -> list[Prerequisite]:
    """Estimate every kind of prerequisite from shapes alone.

    Args:
        plan: what is missing.

    Returns:
        A line for each kind of step that leaves an artifact, in the order they run.
    """
    steps = plan.workspace.steps
    needed_by: dict[str, int] = {}
    for key, entry in steps.scored.items():
        if not entry.is_reference:
            for kind in {steps.artifacts[a].name for a in steps.ancestors([key])}:
                needed_by[kind] = needed_by.get(kind, 0) + 1
    lines: list[Prerequisite] = []
    models = ("data", "import", "pretrain", "train", "multitask", "few_shot")
    for kind in (*models, *STATISTICS, "learn", *PROFILES):
        group = steps.named(kind)
        if group:
            lines.append(_estimate(plan, kind, group, needed_by.get(kind, 0)))
    return lines


def _estimate(plan: Plan, kind: str, group: Sequence[Step], cells: int) -> Prerequisite:
    estimates = [plan.workspace.estimates.of[step.key] for step in group]
    return Prerequisite(
        name=kind,
        steps=len(group),
        to_run=sum(step.key in plan.missing for step in group),
        flops=sum(estimate.flops for estimate in estimates),
        bytes=sum(estimate.bytes for estimate in estimates),
        cells=cells,
    )
