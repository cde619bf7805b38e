"""What is missing, cut into jobs: one Prefect task each."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from flows.plan import Plan
from mergegrid.steps import PROFILES, STATISTICS, Scored
from tasks.evaluate import score_task
from tasks.learn import few_shot_task, learn_task
from tasks.measure import fisher_task, gradient_task, gram_task, norms_task
from tasks.merge import unit_task
from tasks.profile import distribution_task, profile_task
from tasks.step import HEAVY, WorkTask
from tasks.train import (
    data_task,
    import_task,
    multitask_task,
    pretrain_task,
    train_task,
)
from tasks.trim import trim_task
from tasks.workspace import Workspace

TASKS: Mapping[str, WorkTask] = MappingProxyType(
    {
        "data": data_task,
        "import": import_task,
        "pretrain": pretrain_task,
        # Before the experts: it takes longest, and should not run alone at the end.
        "multitask": multitask_task,
        "train": train_task,
        "few_shot": few_shot_task,
        "fisher": fisher_task,
        "gram": gram_task,
        "gradient": gradient_task,
        "norms": norms_task,
        "trim": trim_task,
        "learn": learn_task,
        "score": score_task,
        "cell": unit_task,
        # Nothing waits for what they find.
        "distribution": distribution_task,
        "profile": profile_task,
    }
)
"""Kind of step to the Prefect task that does it, in the order they are started."""

CHEAP = frozenset(kind for kind, task in TASKS.items() if HEAVY not in task.tags)
"""Kinds that no accelerator would do sooner."""

MODELS = frozenset({"data", "import", "pretrain", "multitask", "train", "few_shot"})
"""Kinds that make models."""

MEASURED = MODELS | frozenset(STATISTICS) | frozenset(PROFILES) | {"learn"}
"""Kinds that lead to statistics, learned coefficients and profiles."""

REFERENCES = MODELS | {"score"}
"""Kinds that lead to the scores of models for reference."""

EVERYTHING = frozenset(TASKS)
"""All kinds."""


@dataclass(frozen=True, eq=False)
class Job:
    """Something that is done as one Prefect task."""

    kind: str
    """A key of `TASKS`."""

    keys: tuple[str, ...]
    """Keys of what it makes."""

    after: frozenset[str]
    """Keys that must be made before, as far as other jobs make them."""

    label: str = ""
    """What it is about, for people."""

    flops: int = field(default=0)
    """Expected floating-point operations, to share jobs out by."""


def make_jobs(
    plan: Plan, kinds: Collection[str], keys: Collection[str] | None = None
) -> list[Job]:
    """Turn what is missing into jobs.

    Args:
        plan: what is missing.
        kinds: the kinds of steps that are wanted.
        keys: the steps that are wanted; None for all of those kinds.

    Returns:
        A job for each step and for each unit of cells, kind by kind.
    """
    jobs: list[Job] = []
    for kind in TASKS:
        if kind not in kinds:
            continue
        match kind:
            case "score":
                jobs += [_scoring(plan, [entry]) for entry in plan.references(keys)]
            case "cell":
                jobs += [_scoring(plan, unit) for unit in plan.units(keys)]
            case _:
                jobs += [
                    Job(
                        kind,
                        (step.key,),
                        frozenset(step.parents),
                        step.label,
                        plan.workspace.estimates.of[step.key].flops,
                    )
                    for step in plan.steps(kind)
                    if keys is None or step.key in keys
                ]
    return jobs


def make_jobs_beside(
    plan: Plan, kinds: Collection[str], shares: Collection[Collection[str]]
) -> list[Job]:
    """Turn what is missing into jobs, of which none is partly under way already.

    Cells are grouped into units by what is missing, so that what is in hand elsewhere
    must be set apart before.

    Args:
        plan: what is missing.
        kinds: the kinds of steps that are wanted.
        shares: the keys of each share that was handed out before.

    Returns:
        The shares' jobs, which wait for nothing more, and then those for everything
        else.
    """
    under_way = [
        replace(job, after=frozenset())
        for share in shares
        for job in make_jobs(plan, kinds, share)
    ]
    others = (plan.missing | plan.unscored).difference(*shares)
    return under_way + make_jobs(plan, kinds, others)


def _scoring(plan: Plan, entries: list[Scored]) -> Job:
    """Score cells or models for reference, after everything that any of them reads."""
    kind = entries[0].step.name
    keys = tuple(entry.step.key for entry in entries)
    return Job(
        kind,
        keys,
        frozenset(key for entry in entries for key in entry.step.parents) - set(keys),
        entries[0].step.label if kind == "score" else unit_label(entries),
        _flops(plan.workspace, entries),
    )


def _flops(workspace: Workspace, entries: Iterable[Scored]) -> int:
    """Count what evaluating takes; the merges are cheap beside it."""
    counts = workspace.suite.counts()
    examples = sum(counts[f"{task.name}.test"] for task in workspace.steps.tasks)
    return workspace.estimates.forward_flops * examples * sum(1 for _ in entries)


def unit_label(unit: list[Scored]) -> str:
    """Say what a unit of cells is about.

    Args:
        unit: its cells.

    Returns:
        Its methods, the options that vary in it, and the number of experts.
    """
    methods: dict[str, dict[str, None]] = {}
    for entry in unit:
        varied = methods.setdefault(entry.cell.method, {})
        varied |= dict.fromkeys(entry.cell.swept)
    names = [
        f"{method} ({', '.join(varied)})" if varied else method
        for method, varied in methods.items()
    ]
    sizes = sorted({len(entry.cell.experts) for entry in unit})
    cells = "1 cell" if len(unit) == 1 else f"{len(unit)} cells"
    return f"{', '.join(names)} of {', '.join(map(str, sizes))}: {cells}"
