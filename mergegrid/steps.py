"""The steps that an experiment consists of, and what each of them is made from.

A step's key is its name, its version and its inputs, which are other steps' keys and
plain values. Keys are therefore known before anything runs: they say what is done
already, what is shared, and what an added cell will cost. Arguments that decide where
or how fast a step runs are not inputs.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mergegrid.canonical import JSON, digest
from mergegrid.experiment import Experiment
from mergegrid.grid import Cell
from mergegrid.methods import get_method
from mergegrid.suites.suite import Task

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
