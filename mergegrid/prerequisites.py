"""What cells read: statistics, learned coefficients, models for signs, profiles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mergegrid.canonical import JSON
from mergegrid.errors import InputError
from mergegrid.experiment import Experiment, ProfileChoice
from mergegrid.grid import Cell
from mergegrid.methods import get_method
from mergegrid.methods.needs import Need
from mergegrid.methods.per_expert import each
from mergegrid.methods.ties import FEW_SHOT
from mergegrid.steps import STATISTICS, TOGETHER, Profiled, Scored, Step
from mergegrid.subsets import chosen_subsets
from mergegrid.suites.suite import Task


class Prerequisites:
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
