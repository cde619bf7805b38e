"""One experiment, one file: the schema behind configs/experiments/*.yaml.

An experiment names a suite, how its models are trained, how statistics are measured,
and the grid of merges. It is plain YAML, read into frozen models that refuse unknown
keys; nothing in it is the name of a Python class.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.methods import get_method
from mergegrid.methods.method import Option
from mergegrid.suites import SUITES
from mergegrid.suites.suite import Suite
from mergegrid.training import TrainingSettings


class Section(BaseModel):
    """A part of an experiment file: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, given: object) -> object:
        if isinstance(given, Mapping):
            for key in given:
                if key not in cls.model_fields:
                    raise UnknownNameError("key", str(key), cls.model_fields)
        return given


class Training(Section):
    """How the pretrained model, the experts and the multitask model are trained."""

    pretrain: TrainingSettings
    """The model that all experts start from."""

    expert: TrainingSettings
    """Each expert, on its own task."""

    multitask: TrainingSettings
    """One model on all held-in tasks together, for comparison."""


class FisherSettings(Section):
    """How the diagonal Fisher information is measured."""

    variant: Literal["exact", "sampled", "empirical"] = "sampled"
    """Expectation over the model's labels, one sampled label, or the gold label."""

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


class StatisticsSettings(Section):
    """How the statistics that need data are measured."""

    fisher: FisherSettings = FisherSettings()
    gram: GramSettings = GramSettings()


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


class Nested(Section):
    """Nested random subsets: each sample is one order of the experts, cut at sizes."""

    sizes: tuple[int, ...] = Field(min_length=1)
    """Numbers of experts."""

    samples: int = Field(default=1, ge=1)
    """How many orders are drawn."""

    seed: int = Field(default=0, ge=0)
    """Decides the orders."""

    @field_validator("sizes")
    @classmethod
    def _positive(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 1:
            raise ValueError(f"a subset of {min(sizes)} experts cannot be merged")
        return tuple(sorted(set(sizes)))


class Subsets(Section):
    """Which experts are merged with one another: all, given lists, or nested samples.

    Exactly one of the three is set; the word `all` alone means all experts together.
    """

    all: bool = False
    given: tuple[tuple[str, ...], ...] | None = None
    nested: Nested | None = None

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
        if sum((self.all, self.given is not None, self.nested is not None)) != 1:
            raise ValueError("write one of: all, given, nested")
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


class Experiment(Section):
    """Train one expert per held-in task, merge them in a grid, evaluate every cell."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)
    """Its name in results, in lower case."""

    description: str = ""
    """What it asks, for people."""

    suite: Mapping[str, Any]
    """The suite's `name`, and its options."""

    training: Training
    """How models are trained."""

    statistics: StatisticsSettings = StatisticsSettings()
    """How statistics are measured."""

    grid: tuple[Block, ...] = Field(min_length=1)
    """The merges: the union of all blocks."""

    seed: int = Field(default=0, ge=0)
    """Decides initialisation, batches and sampled labels."""

    @field_validator("suite")
    @classmethod
    def _check_suite(cls, written: Mapping[str, Any]) -> Mapping[str, Any]:
        _suite(written)
        return written

    def open_suite(self) -> Suite:
        """Build the suite with its options.

        Returns:
            The suite.
        """
        return _suite(self.suite)


def load_experiment(path: str | Path) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: a YAML file.

    Returns:
        The experiment.

    Raises:
        InputError: if there is no such file, it is not a YAML mapping, or something
            in it is unknown or out of range; the message names the place.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(
            f"Cannot read the experiment file {path}: {reason}. "
            "Give the path of a YAML file, such as configs/experiments/glyphs.yaml."
        ) from None
    try:
        document = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {_one_line(error)}") from None
    if not isinstance(document, dict):
        raise InputError(
            f"{path} holds {_kind(document)}, but an experiment is a mapping with "
            f"the keys {', '.join(Experiment.model_fields)}."
        )
    return parse_experiment(document, source=str(path))


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
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Say in one line what pydantic found wrong first, and where.

    Args:
        error: what pydantic raised.

    Returns:
        The place, the value and the reason.
    """
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    value = first.get("input")
    shown = "" if isinstance(value, dict | list | Mapping) else f" (got {value!r})"
    if first["type"] == "missing":
        return f"{place} is missing; every experiment needs it."
    more = error.error_count() - 1
    others = f" There {'is 1 more fault' if more == 1 else f'are {more} more faults'}."
    return f"{place or 'the file'}: {reason}{shown}{others if more else ''}"


def _suite(written: Mapping[str, Any]) -> Suite:
    options = dict(written)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"suite has no name; known: {', '.join(SUITES)}")  # noqa: TRY004
    if name not in SUITES:
        raise UnknownNameError("suite", name, SUITES)
    suite = SUITES[name]
    for option in options:
        if option not in suite.model_fields:
            raise UnknownNameError(f"option of {name}", option, suite.model_fields)
    return suite(**options)


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that is written twice is an error, not a silent choice."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(
                None, None, "a key is written twice", node.start_mark
            )
        super().flatten_mapping(node)


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())


def _kind(document: object) -> str:
    return "nothing" if document is None else f"a {type(document).__name__}"
