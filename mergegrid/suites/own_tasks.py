"""Tasks that people describe themselves: a data set, a prompt or classes, a metric.

Or they name one of lm-evaluation-harness, which has all of these.
"""

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from mergegrid.documents import Section
from mergegrid.errors import UnknownNameError
from mergegrid.metrics import METRICS, OF_CHOICES
from mergegrid.suites.hub_data import HubData
from mergegrid.suites.own_harness import OwnHarness
from mergegrid.suites.prompts import Prompts, Template
from mergegrid.suites.suite import Split
from mergegrid.suites.text_data import Selection

SPLIT = re.compile(r"(?P<name>[\w.-]+)(\[(?P<start>-?\d*%?):(?P<stop>-?\d*%?)\])?")
"""A split's name, and perhaps a range of its rows: `train[:-1000]`, `train[80%:]`."""

ENDS = ("start", "stop")

_OF_EVERY_KIND = frozenset(
    {"harness", "splits", "expert", "train", "metric", "category", "domain"}
)
"""Keys that the harness's tasks may have too."""


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
    """A task: texts with a `prompt`, images with `classes`, or one of the harness."""

    data: OwnData | None = None
    """Where its examples come from; the harness's tasks say it themselves."""

    harness: OwnHarness | None = None
    """The task of lm-evaluation-harness that it is."""

    splits: Mapping[Split, str] | None = None
    """Our splits to the data set's, with ranges of rows if need be."""

    expert: str | None = None
    """Its expert: a folder, a URL or a hub name."""

    train: bool = False
    """Whether its expert is to be trained, on its training split."""

    metric: str | None = None
    """How answers are scored; for texts with choices `choice`, for other texts
    `exact_match`, and for images `accuracy`, if nothing is said. For the harness's
    tasks one of their metrics, by its name there."""

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
        if self.harness is not None:
            for key in sorted(self.model_fields_set - _OF_EVERY_KIND):
                raise ValueError(f"{key} is out of place: the harness's task has its")
        elif (self.prompt is None) == (self.image is None):
            raise ValueError("write either prompt, for texts, or image, or harness")
        elif self.data is None:
            raise ValueError("data is missing")
        elif self.prompt is not None:
            self.prompts()
            if self.classes:
                raise ValueError("classes are of images; for texts write choices")
        elif self.label is None or len(self.classes) < 2:
            raise ValueError("images need a label column and at least two classes")
        if self.scored_by not in METRICS:
            raise UnknownNameError("metric", self.scored_by, METRICS)
        needs_choices = self.harness is None and self.scored_by in OF_CHOICES
        if needs_choices and not self.choices:
            raise ValueError(f"the metric {self.scored_by} needs choices")
        if self.is_held_in:
            wanted: tuple[Split, ...] = ("validation", "test")
            wanted = ("train", *wanted) if self.train else wanted
        else:
            wanted = ("test",)
        for split in wanted:
            if split not in self.ranges:
                raise ValueError(f"splits has no {split}")
        for written in self.ranges.values():
            if not SPLIT.fullmatch(written):
                raise ValueError(
                    f"{written!r} is no split; write a name, or NAME[START:STOP], in "
                    f"rows or in %"
                )
        return self

    @property
    def is_held_in(self) -> bool:
        """Whether there is an expert for it."""
        return self.train or self.expert is not None

    @property
    def scored_by(self) -> str:
        """Its metric."""
        if self.harness is not None:
            return self.harness.scored_by(self.metric)
        if self.metric is not None:
            return self.metric
        if self.image is not None:
            return "accuracy"
        return "choice" if self.choices else "exact_match"

    @property
    def ranges(self) -> Mapping[Split, str]:
        """Our splits to the data set's, those that are not written among them."""
        if self.splits is not None:
            return self.splits
        if self.harness is not None:
            return self.harness.ranges()
        return {"validation": "validation", "test": "test"}

    @property
    def source(self) -> HubData:
        """The data set of a task that is described here."""
        assert self.data is not None, "it was checked"
        return self.data.source

    @property
    def saved(self) -> str | None:
        """The folder of saved data sets in which it is."""
        assert self.data is not None, "it was checked"
        return self.data.saved

    def selection(self, split: Split) -> Selection:
        """Tell which rows of the data set make one of our splits.

        Args:
            split: one that the task has.

        Returns:
            The rows.
        """
        match = SPLIT.fullmatch(self.ranges[split])
        assert match is not None, "it was checked"
        ends = [match[end] or "" for end in ENDS]
        start, stop = (int(end.rstrip("%")) if end else None for end in ends)
        unit = "percent" if "%" in "".join(ends) else "rows"
        return Selection(match["name"], start, stop, unit=unit)

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
