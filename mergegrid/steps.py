"""The steps that an experiment consists of, and what each of them is made from.

A step's key is its name, its version and its inputs, which are other steps' keys and
plain values. Keys are therefore known before anything runs: they say what is done
already, what is shared, and what an added cell will cost. Arguments that decide where
or how fast a step runs are not inputs.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mergegrid.canonical import JSON, digest
from mergegrid.errors import InputError
from mergegrid.experiment import Experiment, ProfileChoice
from mergegrid.grid import Cell, Choosers, expand
from mergegrid.methods import get_method
from mergegrid.methods.method import Need
from mergegrid.methods.per_expert import each
from mergegrid.methods.ties import FEW_SHOT
from mergegrid.subsets import chosen_subsets
from mergegrid.suites.suite import Suite, Task
from mergegrid.training import TrainingSettings

VERSIONS = {
    "data": 1,
    "import": 1,
    "pretrain": 2,
    "train": 2,
    "multitask": 2,
    "few_shot": 1,
    "fisher": 2,
    "gram": 1,
    "gradient": 2,
    "norms": 1,
    "trim": 1,
    "learn": 1,
    "distribution": 1,
    "profile": 1,
    "score": 1,
    "cell": 2,
}
"""Version of every step; raise it when a change to the code changes its results."""

STATISTICS = ("fisher", "gram", "gradient", "norms", "trim")
"""The steps that measure a statistic of one expert."""

TOGETHER = "all"
"""Stands for all experts of a cell where a statistic has one key for all of them."""

PROFILES = ("distribution", "profile")
"""The steps that look at task vectors: of one expert, and of several together."""


@dataclass(frozen=True)
class Step:
    """Something that is computed once."""

    name: str
    """What is done, a key of `VERSIONS`."""

    inputs: Mapping[str, JSON] = field(hash=False)
    """Everything that decides the result: keys of steps and plain values."""

    parents: tuple[str, ...]
    """Keys of the steps whose results it reads."""

    label: str
    """What it is about, for people: a task, a method with its options."""

    @property
    def version(self) -> int:
        """The version of this kind of step."""
        return VERSIONS[self.name]

    @functools.cached_property
    def key(self) -> str:
        """Its identity, which reads like `train-v1-9f86d081884c7d65`."""
        return f"{self.name}-v{self.version}-{digest(self.inputs)}"


@dataclass(frozen=True)
class Scored:
    """A step whose result is scores: a merged cell, or a model for reference."""

    step: Step
    """Its identity."""

    cell: Cell
    """The merge; for a model for reference, `method` says which it is."""

    models: Mapping[str, str] = field(hash=False)
    """Name to key of the model artifacts that are read: experts, or the one model."""

    statistics: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict[str, Mapping[str, str]], hash=False
    )
    """Kind of statistic to expert to the key of its artifact; of what is of all experts
    together, to `TOGETHER`: learned coefficients, and the model that gives signs."""

    best_of: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]], hash=False
    )
    """Option that waits to the keys of the cells among which its best value is."""

    @property
    def is_reference(self) -> bool:
        """Whether nothing is merged: pretrained, individual expert, multitask."""
        return self.step.name == "score"

    @property
    def is_per_task(self) -> bool:
        """Whether there is a model for each expert's task, instead of one for all."""
        return not self.is_reference and get_method(self.cell.method).per_task


@dataclass(frozen=True)
class Profiled:
    """A step that looks at the task vectors of some experts."""

    step: Step
    """The step, one of `PROFILES`."""

    experts: tuple[str, ...]
    """The tasks whose experts they are, in the suite's order."""

    sample: int
    """Which nested sample they belong to; 0 if they are not nested in others."""


@dataclass(frozen=True)
class Steps:
    """An experiment as steps, each before those that read it."""

    experiment: Experiment
    tasks: tuple[Task, ...]
    data: Step
    """The step that makes the suite's data."""

    pretrained: Step
    """The step that makes or fetches the pretrained model."""

    experts: Mapping[str, Step] = field(hash=False)
    """The step that makes or fetches each expert, by the name of its task."""

    artifacts: Mapping[str, Step] = field(hash=False)
    """The steps that leave an artifact, by key."""

    scored: Mapping[str, Scored] = field(hash=False)
    """The cells and reference models, by key."""

    profiled: Mapping[str, Profiled] = field(hash=False)
    """The steps that look at task vectors, by key."""

    @functools.cached_property
    def definition(self) -> str:
        """Digest of everything that decides the experiment's results.

        It is made of keys, so that it changes with the file's meaning and with the
        version of any method or step, and not with comments or with speed.
        """
        return digest([*sorted(self.artifacts), *sorted(self.scored)])

    def named(self, *names: str) -> list[Step]:
        """Pick steps by what they do.

        Args:
            *names: keys of `VERSIONS`.

        Returns:
            Those of the artifact steps, in order.
        """
        return [step for step in self.artifacts.values() if step.name in names]

    def ancestors(self, keys: Iterable[str]) -> set[str]:
        """Collect every artifact step that some steps depend on.

        Args:
            keys: keys of artifact steps, cells or reference models.

        Returns:
            Keys of the artifact steps that lead to them, themselves not included.
        """
        found: set[str] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            step = self.artifacts.get(key) or self.scored[key].step
            for parent in step.parents:
                if parent in self.artifacts and parent not in found:
                    found.add(parent)
                    waiting.append(parent)
        return found


def build_steps(experiment: Experiment) -> Steps:
    """Turn an experiment into its steps.

    Args:
        experiment: the experiment.

    Returns:
        Its steps, parents first.
    """
    suite = experiment.open_suite()
    tasks = suite.tasks()
    held_in = [task for task in tasks if task.held_in]
    seed = experiment.seed
    described = {
        "name": suite.name,
        "version": suite.version,
        "options": suite.options(),
    }
    data = Step("data", {"suite": described}, (), suite.name)
    pretrained = _pretrained(experiment, suite, data)

    def trained(name: str, on: list[Task], settings: TrainingSettings | None) -> Step:
        assert settings is not None, "the experiment was checked"
        return Step(
            name,
            {
                "pretrained": pretrained.key,
                "tasks": [f"{task.name}@{task.version}" for task in on],
                "training": settings.model_dump(mode="json"),
                "seed": seed,
            },
            (pretrained.key, data.key),
            on[0].name if len(on) == 1 else f"{len(on)} tasks",
        )

    def expert(task: Task) -> Step:
        published = suite.expert(task.name)
        if published is None:
            return trained("train", [task], experiment.training.expert)
        inputs = {"model": published.identity(), "pretrained": pretrained.key}
        return Step("import", inputs, (pretrained.key,), task.name)

    experts = {task.name: expert(task) for task in held_in}
    together: list[Step] = []
    if experiment.training.multitask is not None:
        together = [trained("multitask", held_in, experiment.training.multitask)]
    cells = expand(experiment)
    measured = _Measured(experiment, tasks, data, pretrained, experts, together)
    scored: dict[str, Scored] = {}

    def evaluated(name: str, cell: Cell, model: Step) -> None:
        step = Step(
            "score",
            {"model": model.key, "data": data.key, "as": name, "on": cell.experts},
            (model.key, pretrained.key, data.key),
            " ".join((name, *cell.experts[:1])) if name == "individual" else name,
        )
        scored[step.key] = Scored(step, cell, models={name: model.key})

    evaluated("pretrained", _reference("pretrained", ()), pretrained)
    for task, step in experts.items():
        evaluated("individual", _reference("individual", (task,)), step)
    for step in together:
        evaluated("multitask", _reference("multitask", tuple(experts)), step)

    choosers = Choosers(cells)
    keys: dict[int, str] = {}
    # Cells that wait for others' scores come after those they wait for.
    for cell in sorted(cells, key=lambda cell: bool(cell.waits)):
        best_of = {
            option: tuple(keys[id(other)] for other in choosers.of(cell, option))
            for option in cell.waits
        }
        entry = measured.scored(cell, best_of)
        keys[id(cell)] = entry.step.key
        scored[entry.step.key] = entry
    for name, step in measured.few_shot(tuple(experts)).items():
        evaluated(name, _reference(name, tuple(experts)), step)
    profiled = {entry.step.key: entry for entry in measured.profiled()}

    artifacts = (
        data,
        pretrained,
        *experts.values(),
        *together,
        *measured.steps.values(),
        *(entry.step for entry in profiled.values()),
    )
    return Steps(
        experiment,
        tasks,
        data,
        pretrained,
        experts,
        {step.key: step for step in artifacts},
        scored,
        profiled,
    )


def _pretrained(experiment: Experiment, suite: Suite, data: Step) -> Step:
    """Train the model that experts start from, or take a published one."""
    what: dict[str, JSON] = {
        "family": suite.family,
        "architecture": suite.architecture(),
    }
    published = suite.pretrained()
    if published is not None:
        inputs = what | {"model": published.identity()}
        return Step("import", inputs, (), "pretrained model")
    settings = experiment.training.pretrain
    assert settings is not None, "the experiment was checked"
    inputs = what | {
        "data": data.key,
        "training": settings.model_dump(mode="json"),
        "seed": experiment.seed,
    }
    return Step("pretrain", inputs, (data.key,), suite.name)


def _reference(name: str, experts: tuple[str, ...]) -> Cell:
    return Cell(name, 1, {}, (), experts, sample=0, seed=0)


class _Measured:
    """The statistics that cells ask for, each made into a step once."""

    def __init__(
        self,
        experiment: Experiment,
        tasks: Iterable[Task],
        data: Step,
        pretrained: Step,
        experts: Mapping[str, Step],
        together: Sequence[Step],
    ) -> None:
        self.experiment = experiment
        self.together = together
        self.versioned = {task.name: f"{task.name}@{task.version}" for task in tasks}
        self.data = data
        self.pretrained = pretrained
        self.experts = experts
        self.steps: dict[str, Step] = {}
        self._few_shot: dict[tuple[str, tuple[str, ...]], Step] = {}

    def scored(self, cell: Cell, best_of: Mapping[str, tuple[str, ...]]) -> Scored:
        """Describe a cell as a step, with the statistics that it reads."""
        needs = get_method(cell.method).needs_of(cell.options)
        statistics: dict[str, dict[str, str]] = {}
        for kind in STATISTICS:
            if Need(kind) in needs:
                statistics[kind] = {
                    expert: self._statistic(kind, expert, cell).key
                    for expert in cell.experts
                }
        models = {expert: self.experts[expert].key for expert in cell.experts}
        if Need.SIGNS in needs:
            statistics["signs"] = {TOGETHER: self._sign_model(cell).key}
        if Need.COEFFICIENTS in needs:
            statistics["coefficients"] = {
                TOGETHER: self._learned(cell, models, statistics).key
            }
        step = Step(
            "cell",
            {
                "recipe": {
                    "method": cell.method,
                    "version": cell.version,
                    "options": dict(cell.options),
                },
                "experts": models,
                "pretrained": self.pretrained.key,
                "statistics": statistics,
                "best_of": best_of,
                "seed": cell.seed,
                "data": self.data.key,
            },
            (
                *models.values(),
                *(key for kind in statistics.values() for key in kind.values()),
                self.pretrained.key,
                self.data.key,
                *(key for keys in best_of.values() for key in keys),
            ),
            _label(cell),
        )
        return Scored(step, cell, models, statistics, best_of)

    def few_shot(self, experts: tuple[str, ...]) -> dict[str, Step]:
        """Find the few-shot models of some tasks that cells ask for.

        Args:
            experts: the tasks.

        Returns:
            Name of the model to the step that trains it.
        """
        return {
            name: step for (name, of), step in self._few_shot.items() if of == experts
        }

    def _sign_model(self, cell: Cell) -> Step:
        """Find the multitask model whose task vector's signs are a cell's.

        Raises:
            InputError: if the experiment trains no such model.
        """
        kind = str(cell.options["election"])
        training = self.experiment.training
        if kind == "multitask":
            if not self.together:
                raise InputError(
                    f"{cell.method} takes the signs of the multitask model, but the "
                    f"experiment trains none: add training.multitask."
                )
            return self.together[0]
        if kind not in FEW_SHOT:
            raise InputError(
                f"{cell.method}: election = {kind!r} takes signs from a file, which an "
                f"experiment has not; take mass, multitask, {' or '.join(FEW_SHOT)}."
            )
        if training.few_shot is None:
            raise InputError(
                f"{cell.method} takes the signs of a model trained on a few examples, "
                f"but the experiment does not say how: add training.few_shot."
            )
        if (kind, cell.experts) not in self._few_shot:
            models = [self.experts[expert].key for expert in cell.experts]
            starts_from = models if kind == FEW_SHOT[1] else []
            step = Step(
                "few_shot",
                {
                    "pretrained": self.pretrained.key,
                    "average": starts_from,
                    "tasks": [self.versioned[expert] for expert in cell.experts],
                    "training": training.few_shot.model_dump(mode="json"),
                    "seed": self.experiment.seed,
                },
                (self.pretrained.key, self.data.key, *starts_from),
                f"{len(cell.experts)} tasks" + " from the average" * bool(starts_from),
            )
            self._few_shot[kind, cell.experts] = step
            self.steps[step.key] = step
        return self._few_shot[kind, cell.experts]

    def _learned(
        self,
        cell: Cell,
        models: Mapping[str, str],
        statistics: Mapping[str, Mapping[str, str]],
    ) -> Step:
        step = Step(
            "learn",
            {
                "recipe": {
                    "method": cell.method,
                    "version": cell.version,
                    "options": dict(cell.options),
                },
                "experts": dict(models),
                "pretrained": self.pretrained.key,
                "statistics": dict(statistics),
                "tasks": [self.versioned[expert] for expert in cell.experts],
                "data": self.data.key,
                "seed": cell.seed,
            },
            (
                *models.values(),
                *(key for kind in statistics.values() for key in kind.values()),
                self.pretrained.key,
                self.data.key,
            ),
            _label(cell),
        )
        return self.steps.setdefault(step.key, step)

    def profiled(self) -> Iterator[Profiled]:
        """Describe what is looked at in task vectors as steps.

        Yields:
            The profiles, and the distribution of every expert in any of them.
        """
        alone: dict[str, None] = {}
        for choice in self.experiment.profiles:
            for sample, subset in chosen_subsets(choice.subsets, tuple(self.experts)):
                alone |= dict.fromkeys(subset)
                yield Profiled(self._profile(subset, choice), subset, sample)
        for expert in sorted(alone, key=list(self.experts).index):
            model = self.experts[expert]
            inputs = {"expert": model.key, "pretrained": self.pretrained.key}
            parents = (model.key, self.pretrained.key)
            step = Step("distribution", inputs, parents, expert)
            yield Profiled(step, (expert,), sample=0)

    def _profile(self, subset: tuple[str, ...], choice: ProfileChoice) -> Step:
        models = {expert: self.experts[expert].key for expert in subset}
        trims = {
            str(density): {expert: self._trim(expert, density).key for expert in subset}
            for density in choice.densities
            if density < 1
        }
        return Step(
            "profile",
            {
                "experts": models,
                "pretrained": self.pretrained.key,
                "densities": choice.densities,
                "trim": trims,
                "mask_thresholds": choice.mask_thresholds,
            },
            (
                *models.values(),
                self.pretrained.key,
                *(key for of_experts in trims.values() for key in of_experts.values()),
            ),
            subset[0] if len(subset) == 1 else f"{len(subset)} experts",
        )

    def _trim(self, expert: str, density: float) -> Step:
        model = self.experts[expert]
        step = Step(
            "trim",
            {
                "expert": model.key,
                "pretrained": self.pretrained.key,
                "density": density,
            },
            (model.key, self.pretrained.key),
            f"{expert} at {density}",
        )
        return self.steps.setdefault(step.key, step)

    def _statistic(self, kind: str, expert: str, cell: Cell) -> Step:
        if kind == "trim":
            densities = each("density", cell.options["density"], len(cell.experts))
            return self._trim(expert, densities[cell.experts.index(expert)])
        model = self.experts[expert]
        inputs: dict[str, JSON] = {"expert": model.key}
        parents: tuple[str, ...] = (model.key,)
        if kind in {"fisher", "gram", "gradient"}:
            settings = getattr(self.experiment.statistics, kind)
            inputs |= settings.model_dump(mode="json")
            inputs |= {"data": self.data.key, "task": expert}
            inputs |= {} if kind == "gram" else {"seed": self.experiment.seed}
            # The pretrained model's artifact says how to build the model.
            parents = (model.key, self.pretrained.key, self.data.key)
        step = Step(kind, inputs, parents, expert)
        return self.steps.setdefault(step.key, step)


def _label(cell: Cell) -> str:
    options = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in cell.options.items()
        if name in cell.swept
    )
    return " ".join(filter(None, (cell.method, options, f"of {len(cell.experts)}")))
