"""Tasks that people describe themselves: a data set, a prompt or classes, a metric."""

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from mergegrid.documents import Section
from mergegrid.errors import UnknownNameError
from mergegrid.metrics import METRICS
from mergegrid.suites.hub_data import HubData
from mergegrid.suites.prompts import Prompts, Template
from mergegrid.suites.suite import Split
from mergegrid.suites.text_data import Selection

SPLIT = re.compile(r"(?P<name>[\w.-]+)(\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?")
"""A split's name, and perhaps a range of its rows: `train[:-1000]`."""


ENDS = ("start", "stop")


class OwnData(Section):
    """A data set as `datasets` knows it."""

    name: str
    """Its name on the hub, `OWNER/NAME`, or of a saved one."""

    config: str | None = None
    """Its configuration, if it has several."""

    revision: str | None = None
    """Its commit, tag or branch on the hub."""

    saved: str | None = None
    """Folder of saved data sets in which it is, instead of the hub."""

    @property
    def source(self) -> HubData:
        """The data set."""
        return HubData(self.name, self.config, self.revision)


class OwnTask(Section):
    """A task: either texts with a `prompt`, or images with `classes`."""

    data: OwnData
    """Where its examples come from."""

    splits: Mapping[Split, str] = Field(
        default_factory=lambda: {"validation": "validation", "test": "test"}
    )
    """Our splits to the data set's, with ranges of rows if need be."""

    expert: str | None = None
    """Its expert: a folder, a URL or a hub name."""

    train: bool = False
    """Whether its expert is to be trained, on its training split."""

    metric: str | None = None
    """How answers are scored; for texts with choices `choice`, for other texts
    `exact_match`, and for images `accuracy`, if nothing is said."""

    category: str | None = None
    """What it asks; its name if nothing is said."""

    domain: str = ""
    """Where its inputs come from."""

    prompt: str | None = None
    """For texts: what the model is given, with columns in braces."""

    choices: tuple[str, ...] | str = ()
    """For texts: what the answer is chosen among, with columns in braces; or the one
    column, in braces, that holds a list of them."""

    answers: str | None = None
    """For texts without choices: the column of the answer, or of a list of acceptable
    answers."""

    label: str | None = None
    """For choices and images: the column with the number of the right one, from 0."""

    image: str | None = None
    """For images: their column."""

    classes: tuple[str, ...] = ()
    """For images: the classes' names, in the order of labels."""

    templates: tuple[str, ...] = ("a photo of a {}.",)
    """For images: prompts with `{}` in place of a class's name."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.prompt is None) == (self.image is None):
            raise ValueError("write either prompt, for texts, or image")
        if self.prompt is not None:
            self.prompts()
            if self.classes:
                raise ValueError("classes are of images; for texts write choices")
        elif self.label is None or len(self.classes) < 2:
            raise ValueError("images need a label column and at least two classes")
        if self.scored_by not in METRICS:
            raise UnknownNameError("metric", self.scored_by, METRICS)
        if self.scored_by == "choice" and not self.choices:
            raise ValueError("the metric choice needs choices")
        if self.is_held_in:
            wanted: tuple[Split, ...] = ("validation", "test")
            wanted = ("train", *wanted) if self.train else wanted
        else:
            wanted = ("test",)
        for split in wanted:
            if split not in self.splits:
                raise ValueError(f"splits has no {split}")
        for written in self.splits.values():
            if not SPLIT.fullmatch(written):
                raise ValueError(
                    f"{written!r} is no split; write a name, or NAME[START:STOP]"
                )
        return self

    @property
    def is_held_in(self) -> bool:
        """Whether there is an expert for it."""
        return self.train or self.expert is not None

    @property
    def scored_by(self) -> str:
        """Its metric."""
        if self.metric is not None:
            return self.metric
        if self.image is not None:
            return "accuracy"
        return "choice" if self.choices else "exact_match"

    def selection(self, split: Split) -> Selection:
        """Tell which rows of the data set make one of our splits.

        Args:
            split: one that the task has.

        Returns:
            The rows.
        """
        match = SPLIT.fullmatch(self.splits[split])
        assert match is not None, "it was checked"
        start, stop = (int(match[end]) if match[end] else None for end in ENDS)
        return Selection(match["name"], start, stop)

    def prompts(self) -> Prompts:
        """Make its prompt one of the kind that suites have.

        Returns:
            The one template, whose fields are columns.
        """
        assert self.prompt is not None, "it is of texts"
        template = Template(prompt=self.prompt, choices=self.choices)
        columns = set(template.fields())
        return Prompts(
            fields={name: name for name in sorted(columns)},
            label=self.label,
            answers=self.answers,
            templates={"en": (template,)},
        )

    def head(self) -> dict[str, Any]:
        """Describe its classes as `open_clip` models take them.

        Returns:
            A head.
        """
        return {"classes": [*self.classes], "templates": [*self.templates]}
