"""Prompts: how a row of a data set becomes a question with its answer.

The wording is data, one YAML file for each data set in `templates/`. A template is text
with fields in braces, and a field is a value of the row: no expressions, no conditions.
All wording is the project's own, in the manner of the Public Pool of Prompts (P3, Bach
et al., arXiv:2202.01279), so scores compare with published ones as those of other
templates do.
"""

import functools
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeAlias

from pydantic import Field, model_validator

from mergegrid.canonical import JSON
from mergegrid.documents import Section, read_mapping, validated
from mergegrid.errors import InputError, UnknownNameError
from mergegrid.suites.texts import Text

Row: TypeAlias = Mapping[str, JSON]
"""A row of a data set, by column."""

FOLDER = Path(__file__).parent / "templates"

_FIELD = re.compile(r"[a-z][a-z0-9_]*")
_FORMATTER = string.Formatter()


class Value(Section):
    """A value of a row, under other names."""

    column: str
    """Where it is: a column, and what follows in it after dots; numbers count from 0
    in lists, as in `annotations.yes_no_answer.0`."""

    names: Mapping[str, str | int]
    """What stands for each value that it can have."""

    def of(self, row: Row) -> str | int:
        """Read it.

        Args:
            row: the row.

        Returns:
            What stands for the row's value.

        Raises:
            UnknownNameError: if nothing does.
        """
        found = str(at(row, self.column))
        if found not in self.names:
            raise UnknownNameError(f"value of {self.column}", found, self.names)
        return self.names[found]


class Template(Section):
    """One wording of a question."""

    prompt: str
    """What the model is given, with fields in braces."""

    choices: tuple[str, ...] | str = ()
    """What the answer is chosen among, in the order of labels: texts with fields, or
    the one field that is a list of them; empty where the answer is free text."""

    def fields(self) -> Iterator[str]:
        """Name the fields that it uses.

        Yields:
            Names, some more than once.
        """
        for text in self.texts():
            yield from field_names(text)

    def texts(self) -> tuple[str, ...]:
        """Give all that has fields to be filled in.

        Returns:
            The prompt and the choices.
        """
        choices = (self.choices,) if isinstance(self.choices, str) else self.choices
        return (self.prompt, *choices)


class Prompts(Section):
    """The templates of one data set, and which of its columns they use."""

    fields: Mapping[str, str | Value] = Field(min_length=1)
    """Field to where its value is in a row, see `Value.column`."""

    label: str | Value | None = None
    """Where the number of the right choice is, counted from 0."""

    answers: str | None = None
    """Where the acceptable answers are, one or a list, if they are free text."""

    templates: Mapping[str, tuple[Template, ...]] = Field(min_length=1)
    """Language to its templates; the first of them is used where only one is."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.label is None) == (self.answers is None):
            raise ValueError("write either label or answers")
        used: set[str] = set()
        for language, templates in self.templates.items():
            if not templates:
                raise ValueError(f"templates.{language} is empty")
            for template in templates:
                if bool(template.choices) == (self.label is None):
                    raise ValueError(
                        f"{template.prompt!r} has choices without a label, or a label "
                        f"without choices"
                    )
                used |= set(template.fields())
                if isinstance(template.choices, str) and (
                    not template.choices.strip("{}").isidentifier()
                ):
                    raise ValueError(
                        f"{template.choices!r} is neither one field nor a list of texts"
                    )
        for field in sorted(used - self.fields.keys()):
            raise UnknownNameError("field", field, self.fields)
        for field in sorted(self.fields.keys() - used):
            raise ValueError(f"the field {field} is used by no template")
        return self

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """The columns of the data set that are read."""
        values = [*self.fields.values(), self.label, self.answers]
        paths = [v.column if isinstance(v, Value) else v for v in values if v]
        return frozenset(path.partition(".")[0] for path in paths)

    def wordings(self, language: str) -> tuple[Template, ...]:
        """Give the templates of a language.

        Args:
            language: its code.

        Returns:
            The templates.

        Raises:
            UnknownNameError: if there are none.
        """
        if language not in self.templates:
            raise UnknownNameError("language of templates", language, self.templates)
        return self.templates[language]

    def text(self, row: Row, template: Template, number: int = 0) -> Text:
        """Fill a template in.

        Args:
            row: a row of the data set.
            template: one of the templates.
            number: what tells it from the others, if their scores are told apart.

        Returns:
            The question with its answers; white space around texts is dropped.

        Raises:
            InputError: if the row lacks a value, or its label is no choice.
        """
        fields: dict[str, JSON] = {
            name: value.of(row) if isinstance(value, Value) else at(row, value)
            for name, value in self.fields.items()
        }
        prompt = _filled(template.prompt, fields)
        if self.answers is not None:
            return Text(prompt, _texts(at(row, self.answers)), (), number)
        if isinstance(template.choices, str):
            (name,) = field_names(template.choices)
            choices = _texts(fields[name])
        else:
            choices = tuple(_filled(choice, fields) for choice in template.choices)
        label = self._label(row)
        if not 0 <= label < len(choices):
            raise InputError(
                f"The label {label} is none of the {len(choices)} choices "
                f"{list(choices)}: the row has no answer, or its split hides answers."
            )
        return Text(prompt, (choices[label],), choices, number)

    def _label(self, row: Row) -> int:
        assert self.label is not None, "there are choices"
        if isinstance(self.label, Value):
            return int(self.label.of(row))
        return int(at(row, self.label))


def at(row: Row, path: str) -> JSON:
    """Look a value up in a row.

    Args:
        row: the row.
        path: see `Value.column`.

    Returns:
        The value.

    Raises:
        InputError: if there is nothing.
    """
    found: JSON = row
    for step in path.split("."):
        try:
            found = found[int(step) if step.isdecimal() else step]
        except (KeyError, IndexError, TypeError):
            raise InputError(
                f"A row has no {path}: looked for {step!r} in {_shown(found)}."
            ) from None
    return found


@functools.cache
def load_prompts(name: str) -> Prompts:
    """Read the prompts of a data set.

    Args:
        name: the name of its file in `templates/`.

    Returns:
        The prompts.

    Raises:
        UnknownNameError: if there is no such file.
        InputError: if it is not as it should be.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        raise UnknownNameError("data set with prompts", name, known)
    return validated(Prompts, read_mapping(path), source=str(path))


def field_names(text: str) -> list[str]:
    """Name the fields of a text.

    Args:
        text: text with fields in braces.

    Returns:
        Their names, in order.

    Raises:
        ValueError: if something in braces is more than a name.
    """
    found: list[str] = []
    for _, field, form, conversion in _FORMATTER.parse(text):
        if field is None:
            continue
        if form or conversion or not _FIELD.fullmatch(field):
            raise ValueError(f"{text!r}: a field is a plain name in braces")
        found.append(field)
    return found


def _filled(text: str, fields: Mapping[str, JSON]) -> str:
    # Filled in once, so that braces in the data stay what they are.
    return text.format_map(fields).strip()


def _texts(found: str | Sequence[str]) -> tuple[str, ...]:
    texts = (found,) if isinstance(found, str) else tuple(found)
    return tuple(text.strip() for text in texts)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return f"columns {', '.join(map(str, value))}"
    return f"a {type(value).__name__}"
