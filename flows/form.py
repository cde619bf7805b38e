"""The form behind the deployed flows: an experiment that is put together by hand.

Prefect draws a form from a flow's signature: menus from literals, a switch from
"something or nothing", a list that grows from a list. Every method is a section of its
own, off or on, in which each option has a list of values, the paper's sweep to begin
with. The models are made from the registry, so that a new method has its section.
"""

import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from mergegrid.documents import read_mapping
from mergegrid.errors import InputError
from mergegrid.experiment import Experiment, parse_experiment
from mergegrid.methods import METHODS
from mergegrid.methods.method import Method
from mergegrid.methods.options import Option
from mergegrid.suites import SUITES

CONFIGS = Path(__file__).parent.parent / "configs" / "experiments"
"""Where each suite's experiment file is, named as the suite."""

CHOSEN_AT_FIRST = ("average", "task_arithmetic", "ties", "regmean")
"""Methods that a new form has switched on."""

KNOWN_SUITES: dict[str, Any] = {
    "enum": [name for name in SUITES if (CONFIGS / f"{name}.yaml").is_file()]
}
"""What makes a text field a menu of the suites that need no more than a name."""


class Part(BaseModel):
    """A section of the form, strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SubsetsForm(Part):
    """Which experts are merged with one another."""

    kind: Literal["all", "nested", "given"] = Field(
        default="all",
        description="all experts together; nested random subsets of several sizes; or "
        "the subsets that are written below",
    )
    sizes: list[int] = Field(
        default=[2, 4, 8], description="nested: numbers of experts", min_length=1
    )
    samples: int = Field(
        default=1, ge=1, description="nested: random orders of the experts"
    )
    order_seed: int = Field(default=0, ge=0, description="nested: decides the orders")
    given: list[list[str]] = Field(
        default=[],
        description="given: subsets, each a list of experts by their tasks' names",
    )

    def written(self) -> object:
        """Give the section as an experiment file has it.

        Returns:
            Plain values.
        """
        match self.kind:
            case "all":
                return "all"
            case "given":
                return {"given": self.given}
            case "nested":
                orders = {"samples": self.samples, "seed": self.order_seed}
                return {"nested": {"sizes": self.sizes, **orders}}


def _section(method: Method) -> type[BaseModel]:
    """Make a method's section: for each option a list of the values to try."""
    fields: dict[str, Any] = {
        name: _field(
            field, method.sweep.get(name), words=("best",) * (name in method.best)
        )
        for name, field in method.options.model_fields.items()
    }
    return create_model(method.title, __base__=Part, **fields)


def _field(
    option: FieldInfo, sweep: tuple[Any, ...] | None, words: tuple[str, ...]
) -> tuple[Any, Any]:
    values = list(sweep) if sweep is not None else [option.get_default()]
    about = option.description
    annotation: Any = option.annotation
    if typing.get_origin(annotation) is Literal or annotation is bool:
        # A list of menu entries is a menu of several.
        kind = list[annotation]  # pyright: ignore[reportInvalidTypeForm]
        return kind, Field(default=values, description=about, min_length=1)
    words += tuple(value for value in values if isinstance(value, str))
    if annotation in {int, float} and not words:
        kind = list[Annotated[(annotation, *option.metadata)]]  # pyright: ignore[reportInvalidTypeForm]
        return kind, Field(default=values, description=about, min_length=1)
    # Text where a word, or a list with a number for each expert, may stand for one.
    hints = [f"'{word}'" for word in sorted(set(words))]
    hints += ["a list such as [0.5, 1]"] * _takes_list(annotation)
    described = f"{about} (a number, or {', or '.join(hints)})" if hints else about
    shown = [str(value) for value in values if value is not None]
    return list[str], Field(default=shown, description=described)


def _takes_list(annotation: object) -> bool:
    union = typing.get_origin(annotation) in {typing.Union, types.UnionType}
    parts = typing.get_args(annotation) if union else (annotation,)
    return any(typing.get_origin(part) is tuple for part in parts)


def _methods_form() -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, method in METHODS.items():
        about = Field(default=None, description=method.source)
        fields[name] = (_section(method) | None, about)
    return create_model("Methods", __base__=Part, **fields)


if TYPE_CHECKING:

    class MethodsForm(Part):
        """Every method of the registry as an optional section."""

else:
    MethodsForm = _methods_form()

AT_FIRST = MethodsForm.model_validate({name: {} for name in CHOSEN_AT_FIRST})
"""The methods' section of a new form."""

ALL_TOGETHER = SubsetsForm()
"""The subsets' section of a new form."""


def chosen(methods: BaseModel) -> list[dict[str, Any]]:
    """Give the methods that are switched on as an experiment file has them.

    Args:
        methods: the section of all methods.

    Returns:
        Name and options of each.

    Raises:
        InputError: if a value is no YAML.
    """
    found: list[dict[str, Any]] = []
    for name in type(methods).model_fields:
        section = getattr(methods, name)
        if section is not None:
            options = {
                option: [_read(f"methods.{name}.{option}", value) for value in values]
                for option, values in section.model_dump().items()
                if values  # an empty list leaves the default
            }
            found.append({"name": name, "options": options})
    return found


def _read(place: str, value: Option) -> Option:
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(
            f"{place}: {value!r} is no value; write a number, a word, or a list such "
            "as [0.5, 1]."
        ) from None


def experiment_from_form(
    *,
    name: str,
    suite: str,
    methods: BaseModel,
    subsets: SubsetsForm,
    seeds: list[int],
) -> Experiment:
    """Put an experiment together: the suite's own, with another grid.

    Args:
        name: the experiment's name.
        suite: the suite, whose file says how to train and measure.
        methods: the section of all methods.
        subsets: the section of subsets.
        seeds: seeds of methods that draw.

    Returns:
        The experiment.

    Raises:
        InputError: if something in it is not possible; the message names the field.
    """
    wanted = chosen(methods)
    if not wanted:
        raise InputError("methods: none is switched on; switch on at least one.")
    document = read_mapping(CONFIGS / f"{suite}.yaml") | {
        "name": name,
        "description": f"From the form, over {subsets.kind} subsets",
        "grid": [{"methods": wanted, "subsets": subsets.written(), "seeds": seeds}],
    }
    return parse_experiment(document, source="form")
