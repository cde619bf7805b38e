"""One experiment, one file: the schema behind configs/experiments/*.yaml.

An experiment names a suite, how its models are trained, how statistics are measured,
and the grid of merges. It is plain YAML, read into frozen models that refuse unknown
keys; nothing in it is the name of a Python class.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from mergegrid.documents import Section, fetch_mapping, read_mapping, validated
from mergegrid.errors import UnknownNameError
from mergegrid.learning.learned import Hold
from mergegrid.likelihood import Positions
from mergegrid.methods import get_method
from mergegrid.methods.options import Option
from mergegrid.suites import SUITES
from mergegrid.suites.suite import Suite
from mergegrid.training import TrainingSettings


class FewShotSettings(TrainingSettings):
    """How a multitask model is trained on a few examples of each task.

    All of them are trained on; training stops early by how well they are answered.
    """

    examples: int = Field(default=32, ge=1)
    """Labelled examples of each task."""

    split: Literal["train", "validation"] = "validation"
    """The split that they are from."""


class Training(Section):
    """How the pretrained model, the experts and the multitask model are trained."""

    pretrain: TrainingSettings | None = None
    """The model that all experts start from; None if the suite has a published one."""

    expert: TrainingSettings | None = None
    """Each expert, on its own task; None if the suite has published ones."""

    multitask: TrainingSettings | None = None
    """One model on all held-in tasks together, for comparison; None for none."""

    few_shot: FewShotSettings | None = None
    """Multitask models on a few examples, for the signs that some merges take."""


class FisherSettings(Section):
    """How the diagonal Fisher information is measured."""

    variant: Literal["exact", "sampled", "empirical"] = "sampled"
    """Expectation over the model's labels, one sampled label, or the gold label."""

    positions: Positions = "mean"
    """Whether the positions of an answer are averaged or added up."""

    split: Literal["train", "validation"] = "validation"
    """The examples' split."""

    examples: int = Field(default=1000, ge=1)
    """At most so many examples per expert."""


class GramSettings(Section):
    """How Gram matrices of layer inputs are measured."""

    split: Literal["train", "validation"] = "validation"
    """The examples' split."""

    examples: int = Field(default=1000, ge=1)
    """At most so many examples per expert."""


class GradientSettings(FisherSettings):
    """How Gram matrices of output gradients are measured: as Fisher information is."""


class StatisticsSettings(Section):
    """How the statistics that need data are measured."""

    fisher: FisherSettings = FisherSettings()
    gram: GramSettings = GramSettings()
    gradient: GradientSettings = GradientSettings()


class MethodChoice(Section):
    """A method and the values of its options, each a value or a list to sweep over."""

    name: str
    """A name from the registry of methods."""

    options: Mapping[str, Option | list[Option]] = Field(default_factory=dict)
    """Options by name; those not named are swept as their paper swept them."""

    @model_validator(mode="before")
    @classmethod
    def _accept_a_bare_name(cls, given: object) -> object:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        known = get_method(self.name).options.model_fields
        for option in self.options:
            if option not in known:
                raise UnknownNameError(f"option of {self.name}", option, known)
        return self


SHORTEST_PREFIX = 2
"""Two orders may begin with the same expert."""


def _sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if min(sizes) < 1:
        raise ValueError(f"a subset of {min(sizes)} experts cannot be merged")
    return tuple(sorted(set(sizes)))


Sizes: TypeAlias = Annotated[
    tuple[int, ...], Field(min_length=1), AfterValidator(_sizes)
]
"""Numbers of experts, each once, ascending."""


class Nested(Section):
    """Nested random subsets: each sample is one order of the experts, cut at sizes."""

    sizes: Sizes
    """Numbers of experts."""

    samples: int = Field(default=1, ge=1)
    """How many orders are drawn."""

    seed: int = Field(default=0, ge=0)
    """Decides the orders."""


class Orders(Section):
    """Nested subsets of given orders of experts, each cut at sizes."""

    given: tuple[tuple[str, ...], ...] = Field(min_length=1)
    """The orders, each of experts by their tasks; no two begin alike."""

    sizes: Sizes
    """Numbers of experts."""

    @model_validator(mode="after")
    def _no_two_begin_alike(self) -> Self:
        seen: dict[tuple[str, ...], int] = {}
        for number, order in enumerate(self.given, start=1):
            for size in self.sizes:
                if size > len(order):
                    raise ValueError(
                        f"order {number} names {len(order)} experts, fewer than {size}"
                    )
                prefix = order[:size]
                if size >= SHORTEST_PREFIX and prefix in seen:
                    raise ValueError(
                        f"the orders {seen[prefix]} and {number} begin with the same "
                        f"{size} experts in the same order; leave one out"
                    )
                seen.setdefault(prefix, number)
        return self


class Combinations(Section):
    """Subsets of each size, drawn independently: all of them, or so many at random."""

    sizes: Sizes
    """Numbers of experts."""

    most: int = Field(default=10, ge=1)
    """At most so many subsets of each size."""

    seed: int = Field(default=0, ge=0)
    """Decides which, where there are more."""


class Subsets(Section):
    """Which experts are merged with one another.

    All of them, given lists, nested samples of random orders or of given ones, one
    order that is merged expert by expert, or combinations. Exactly one is set; the word
    `all` alone means all experts together.
    """

    all: bool = False
    given: tuple[tuple[str, ...], ...] | None = None
    nested: Nested | None = None
    orders: Orders | None = None
    incremental: tuple[str, ...] | None = Field(default=None, min_length=2)
    combinations: Combinations | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_all(cls, written: object) -> object:
        if isinstance(written, str):
            if written != "all":
                raise UnknownNameError("kind of subsets", written, cls.model_fields)
            return {"all": True}
        return written

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = list(type(self).model_fields)
        if sum(getattr(self, kind) not in {None, False} for kind in kinds) != 1:
            raise ValueError(f"write one of: {', '.join(kinds)}")
        if self.given is not None and not all(self.given):
            raise ValueError("a given subset is empty; name at least one expert")
        return self


class Block(Section):
    """A part of the grid: every method, over every subset, with every seed."""

    methods: tuple[MethodChoice, ...] = Field(min_length=1)
    """The methods, with the options to sweep over."""

    subsets: Subsets = Subsets(all=True)
    """The experts that are merged."""

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of methods that draw at random; the others ignore them."""


def _each_once(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(set(values)))


class ProfileChoice(Section):
    """Which task vectors are looked at, and how: nothing is merged or evaluated.

    Every subset is profiled together (`mergegrid.profiles`), and every expert in any of
    them by itself.
    """

    subsets: Subsets = Subsets(all=True)
    """The experts that are profiled together."""

    densities: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_each_once)
    ] = (0.2,)
    """Fractions of entries to keep; untrimmed task vectors are always looked at."""

    mask_thresholds: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], AfterValidator(_each_once)
    ] = ()
    """Thresholds of TALL-masks; none for no masks."""


class Experiment(Section):
    """Train one expert per held-in task, merge them in a grid, evaluate every cell."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)
    """Its name in results, in lower case."""

    description: str = ""
    """What it asks, for people."""

    suite: Mapping[str, Any]
    """The suite's `name`, and its options."""

    training: Training = Training()
    """How models are trained."""

    statistics: StatisticsSettings = StatisticsSettings()
    """How statistics are measured."""

    grid: tuple[Block, ...] = Field(min_length=1)
    """The merges: the union of all blocks."""

    profiles: tuple[ProfileChoice, ...] = ()
    """What is looked at in task vectors, beside the merges."""

    seed: int = Field(default=0, ge=0)
    """Decides initialisation, batches and sampled labels."""

    batch_size: int = Field(default=256, ge=1)
    """Most examples at a time in evaluation and statistics, whose results do not depend
    on it; training has its own."""

    task_vectors: Hold = "held"
    """Where task vectors are while their coefficients are learned, which do not depend
    on it: held where the model is; `offloaded` to main memory, and brought to the model
    one tensor at a time; or `streamed`, made from the experts when they are needed."""

    @field_validator("suite")
    @classmethod
    def _check_suite(cls, written: Mapping[str, Any]) -> Mapping[str, Any]:
        _suite(written)
        return written

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        suite = self.open_suite()
        published = suite.pretrained()
        given = self.training.pretrain is not None
        if published is None and not given:
            raise ValueError(
                f"training.pretrain is missing: {suite.name} trains its model from "
                f"nothing"
            )
        if published is not None and given:
            raise ValueError(
                f"training.pretrain is out of place: {suite.name} starts from the "
                f"published model {published.place}"
            )
        untaught = [
            task.name
            for task in suite.tasks()
            if task.held_in and suite.expert(task.name) is None
        ]
        if untaught and self.training.expert is None:
            raise ValueError(
                f"training.expert is missing: {untaught[0]} has no published expert"
            )
        return self

    def open_suite(self) -> Suite:
        """Build the suite with its options.

        Returns:
            The suite.
        """
        return _suite(self.suite)


def load_experiment(path: str | Path) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: a YAML file, or its URL.

    Returns:
        The experiment.

    Raises:
        InputError: if there is no such file, it is not a YAML mapping, or something
            in it is unknown or out of range; the message names the place.
    """
    where = str(path)
    document = fetch_mapping(where) if "://" in where else read_mapping(Path(path))
    return parse_experiment(document, source=where)


def parse_experiment(document: Mapping[str, Any], *, source: str) -> Experiment:
    """Check an experiment that has been read already.

    Args:
        document: its keys and values.
        source: where it comes from, for messages.

    Returns:
        The experiment.

    Raises:
        InputError: if something in it is unknown or out of range.
    """
    return validated(Experiment, document, source=source)


def _suite(written: Mapping[str, Any]) -> Suite:
    options = dict(written)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"suite has no name; known: {', '.join(SUITES)}")  # noqa: TRY004
    if name not in SUITES:
        raise UnknownNameError("suite", name, SUITES)
    suite = SUITES[name]
    known = [field.alias or option for option, field in suite.model_fields.items()]
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    return suite(**options)
