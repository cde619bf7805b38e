"""`nlp7`, `qa8` and `p3_11`: English tasks with prompts, for T5 and T0.

The benchmarks of natural language processing of TIES-Merging (Yadav et al.,
arXiv:2306.01708), its reproduction study, TALL-masks (Wang et al., arXiv:2405.07813)
and SuperMerge. The data sets and how they are split are in `p3_data`.
"""

from abc import abstractmethod
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mergegrid.errors import UnknownNameError
from mergegrid.suites.p3_data import FEW, Protocol, sets
from mergegrid.suites.suite import Split, Task
from mergegrid.suites.text_data import Part, Wordings
from mergegrid.suites.text_data_models import MODELS, Model
from mergegrid.suites.text_data_suite import TextSuite

SEVEN = (
    "paws",
    "qasc",
    "quartz",
    "story_cloze",
    "wiki_qa",
    "winogrande",
    "wsc",
)
"""The tasks of TIES for T5, in the order of its tables."""

EIGHT = (
    "cosmos_qa",
    "social_iqa",
    "paws",
    "quail",
    "wiki_qa",
    "quartz",
    "qasc",
    "ropes",
)
"""The question answering of MaTS and TALL-masks, on which SuperMerge tests what it did
not train on."""

ELEVEN = (
    "rte",
    "cb",
    "winogrande",
    "wic",
    "wsc",
    "copa",
    "hellaswag",
    "story_cloze",
    "anli_r1",
    "anli_r2",
    "anli_r3",
)
"""The tasks of TIES and SuperMerge for T0, which T0 was not trained on."""

OUT_OF_DOMAIN = ("cosmos_qa", "social_iqa", "quail", "wic", "copa", "hellaswag")
"""On which TIES tests what its T5 models did not train on."""


class P3Suite(TextSuite):
    """Tasks of the Public Pool of Prompts."""

    story_cloze: str | None = Field(
        default=None,
        description="folder with the two CSV files of the Story Cloze Test, 2016",
    )
    without: tuple[str, ...] = Field(default=(), description="tasks that are left out")
    few: int = Field(
        default=FEW,
        ge=1,
        description="rows to validate each task on, where splits are as in TIES",
    )
    last: int | None = Field(
        default=None,
        ge=1,
        description="rows at the end of a training split to validate on, where splits "
        "are as in MaTS; as many as its authors took if not given",
    )

    @model_validator(mode="after")
    def _leave_out_what_there_is(self) -> Self:
        known = (*self.held_in_tasks, *self.generalization_tasks)
        for name in self.without:
            if name not in known:
                raise UnknownNameError(f"task of {self.name}", name, known)
        return self

    @property
    @abstractmethod
    def held_in_tasks(self) -> tuple[str, ...]:
        """The tasks that experts are trained on."""

    @property
    @abstractmethod
    def generalization_tasks(self) -> tuple[str, ...]:
        """The tasks that no expert is trained on."""

    @property
    @abstractmethod
    def protocol(self) -> Protocol:
        """How data sets are split."""

    def wordings(self, split: Split) -> Wordings:
        """Tell which templates are used.

        Args:
            split: for which split.

        Returns:
            The first, as for TIES' T5 models; for MaTS' all to train on and one after
            the other to evaluate.
        """
        if self.protocol == "ties":
            return "first"
        return "all" if split == "train" else "in_turn"

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            The held-in tasks, then the others.
        """
        known = sets()
        every = [*self.held_in_tasks, *self.generalization_tasks]
        return tuple(
            Task(
                name=name,
                version=self.version,
                category=known[name].category,
                domain="",
                held_in=name in self.held_in_tasks,
                metric=known[name].metric,
            )
            for name in every
            if name not in self.without
        )

    def parts(self) -> dict[str, Part]:
        """Describe every split of every task.

        Returns:
            The parts by `<task>.<split>`.
        """
        known = sets(self.story_cloze)
        splits: tuple[Split, ...] = ("train", "validation", "test")
        return {
            f"{task.name}.{split}": known[task.name].part(
                split,
                self.protocol,
                self.wordings(split),
                few=self.few,
                last=self.last,
                most=self.most,
            )
            for task in self.tasks()
            for split in (splits if task.held_in else splits[-1:])
        }


class Nlp7(P3Suite):
    """Seven tasks for T5, and six that measure generalization."""

    model: Literal["t5-base", "t5-large", "t5-large-lm-adapt"] = Field(
        default="t5-base", description="the published model that experts start from"
    )
    splits: Protocol = Field(
        default="ties",
        description="how data sets are split: ties, or mats as TALL-masks did",
    )

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "nlp7"

    @property
    def held_in_tasks(self) -> tuple[str, ...]:
        """The tasks that experts are trained on."""
        return SEVEN

    @property
    def generalization_tasks(self) -> tuple[str, ...]:
        """The tasks that no expert is trained on."""
        return OUT_OF_DOMAIN

    @property
    def protocol(self) -> Protocol:
        """How data sets are split."""
        return self.splits

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a question."""
        return 128 if self.splits == "ties" else 512

    def start(self) -> Model:
        """Name the published model that experts start from.

        Returns:
            The model.
        """
        return MODELS[self.model]


class Qa8(P3Suite):
    """Eight tasks that ask questions, for T5-large adapted to language modelling."""

    splits: Protocol = Field(
        default="mats", description="how data sets are split: mats, or ties"
    )

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "qa8"

    @property
    def held_in_tasks(self) -> tuple[str, ...]:
        """The tasks that experts are trained on."""
        return EIGHT

    @property
    def generalization_tasks(self) -> tuple[str, ...]:
        """None: its papers test on what was trained on."""
        return ()

    @property
    def protocol(self) -> Protocol:
        """How data sets are split."""
        return self.splits

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a question."""
        return 512

    def start(self) -> Model:
        """Name the published model that experts start from.

        Returns:
            The model.
        """
        return MODELS["t5-large-lm-adapt"]


class P3Eleven(P3Suite):
    """Eleven tasks for T0-3B with (IA)3, and eight that measure generalization."""

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "p3_11"

    @property
    def family(self) -> str:
        """The model family that its models belong to."""
        return "adapters"

    @property
    def held_in_tasks(self) -> tuple[str, ...]:
        """The tasks that experts are trained on."""
        return ELEVEN

    @property
    def generalization_tasks(self) -> tuple[str, ...]:
        """The tasks that no expert is trained on."""
        return EIGHT

    @property
    def protocol(self) -> Protocol:
        """How data sets are split."""
        return "ties"

    def wordings(self, split: Split) -> Wordings:
        """Tell which templates are used.

        Args:
            split: for which split.

        Returns:
            All: a task's score is the median over its templates.
        """
        del split
        return "all"

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a question."""
        return 512

    def architecture(self) -> dict[str, Any]:
        """Describe the model: T0 with vectors that scale keys, values and inner layers.

        Returns:
            What `adapters` makes models from.
        """
        return {
            "family": "seq2seq",
            "base": super().architecture(),
            "adapter": {"kind": "ia3", "targets": ["k", "v", "wi_1"]},
        }

    def start(self) -> Model:
        """Name the published model that experts start from.

        Returns:
            The model.
        """
        return MODELS["t0-3b"]
