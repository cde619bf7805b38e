"""`vision8`, `vision14`, `vision20`: image classification with CLIP's zero-shot heads.

The tasks of the papers on merging CLIP models, from Ilharco et al. (arXiv:2212.04089)
to Wang et al. (TALL-masks, arXiv:2405.07813): each has classes of its own, among which
its examples choose; every task is held in. What is known of them - classes, prompts,
data sets, counts, licences - is in `vision.yaml`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field

from mergegrid.documents import read_mapping
from mergegrid.errors import InputError
from mergegrid.models.open_clip_architecture import Head
from mergegrid.suites.clip_suite import ClipSuite, ImageData
from mergegrid.suites.hub_data import HubData
from mergegrid.suites.images import encoded_rows, write_images
from mergegrid.suites.parts import part_file
from mergegrid.suites.suite import Fetch, Progress, Task

ALIKE = " // "
"""Between the names of one class."""


class Place(BaseModel):
    """Where a data set is on the hub, and what it calls things."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    config: str | None = None
    revision: str | None = None
    image: str = "image"
    label: str = "label"
    train: str = "train"
    test: str = "test"


class Facts(BaseModel):
    """What is known of a task before its data are there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    data: Place
    examples: dict[str, int]
    bytes: int
    licence: str
    templates: list[str] | str
    classes: str

    @property
    def names(self) -> list[str | list[str]]:
        """The names of each class: one, or several that are alike."""
        written = self.classes.split(", ")
        return [name.split(ALIKE) if ALIKE in name else name for name in written]

    @property
    def source(self) -> HubData:
        """The data set."""
        where = self.data
        return HubData(
            where.name,
            where.config,
            where.revision,
            bytes=self.bytes,
            licence=self.licence,
        )


_WRITTEN = read_mapping(Path(__file__).with_suffix(".yaml"))

TASKS: Mapping[str, Facts] = {
    name: Facts.model_validate(facts) for name, facts in _WRITTEN["tasks"].items()
}
"""All twenty tasks in the papers' order."""

TEMPLATES: Mapping[str, list[str]] = _WRITTEN["templates"]
"""Templates that tasks share, by name."""


class Vision(ClipSuite):
    """Image classification, each task with classes of its own."""

    number: ClassVar[int]
    """How many tasks there are."""

    seed: int = Field(default=0, ge=0, description="decides what is for validation")
    validation: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of the training images that is for validation",
    )
    most_validation: int = Field(
        default=5000, ge=1, description="at most so many images are for validation"
    )

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return f"vision{self.number}"

    @property
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""
        return 1

    @property
    def trained_on(self) -> str:
        """What the published model was trained on, open_clip's tag."""
        return "openai"

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks, all of them held in.

        Returns:
            The first tasks of the papers' twenty.
        """
        return tuple(
            Task(
                name=name,
                version=facts.version,
                category=name,
                domain="",
                held_in=True,
            )
            for name, facts in self._facts().items()
        )

    def heads(self) -> list[dict[str, Any]]:
        """List the classes and their prompts.

        Returns:
            A head for each task.
        """
        return [
            {
                "classes": facts.names,
                "templates": TEMPLATES[facts.templates]
                if isinstance(facts.templates, str)
                else facts.templates,
            }
            for facts in self._facts().values()
        ]

    def counts(self) -> dict[str, int]:
        """Count the images of every part of the data.

        Returns:
            Number of images by `<task>.<split>`.
        """
        counts: dict[str, int] = {}
        for name, facts in self._facts().items():
            held = self._held(facts.examples["train"])
            counts[f"{name}.train"] = facts.examples["train"] - held
            counts[f"{name}.validation"] = held
            counts[f"{name}.test"] = facts.examples["test"]
        return counts

    def fetches(self) -> tuple[Fetch, ...]:
        """List what has to be fetched before the data can be prepared.

        Returns:
            A data set for each task; nothing if they are saved.
        """
        if self.saved:
            return ()
        return tuple(facts.source.fetch() for facts in self._facts().values())

    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Write every task's images, as they are encoded.

        Args:
            directory: an empty directory.
            progress: told about the tasks written.
        """
        tasks = self._facts()
        for done, (name, facts) in enumerate(tasks.items(), start=1):
            for split, chosen, dataset in self._parts(facts):
                rows = encoded_rows(
                    dataset,
                    chosen,
                    image=facts.data.image,
                    label=facts.data.label,
                    relabel=_labels(name, facts, dataset).__getitem__,
                )
                write_images(part_file(directory, f"{name}.{split}"), rows)
            if progress is not None:
                progress(done, len(tasks))

    def open(self, directory: Path) -> ImageData:
        """Open data that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The data, decoded as they are asked for.
        """
        ranges: dict[str, tuple[int, int]] = {}
        first = 0
        for name, facts in self._facts().items():
            ranges[name] = (first, first + len(facts.names) - 1)
            first += len(facts.names)
        return ImageData(
            self.name, directory, self.counts().keys(), self.image_size, ranges
        )

    def _facts(self) -> dict[str, Facts]:
        return dict(list(TASKS.items())[: self.number])

    def _held(self, images: int) -> int:
        """Count the images that are held back for validation."""
        return max(1, min(int(images * self.validation), self.most_validation))

    def _parts(self, facts: Facts) -> list[tuple[str, list[int], Dataset]]:
        columns = (facts.data.image, facts.data.label)
        train = facts.source.open(facts.data.train, columns, self.saved)
        test = facts.source.open(facts.data.test, columns, self.saved)
        # As torch.utils.data.random_split divides them, with a generator of that seed.
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(train), generator=generator).tolist()
        kept = len(train) - self._held(len(train))
        return [
            ("train", sorted(order[:kept]), train),
            ("validation", sorted(order[kept:]), train),
            ("test", list(range(len(test))), test),
        ]


class Vision8(Vision):
    """Cars, textures, satellite images, traffic signs, digits, scenes."""

    number = 8


class Vision14(Vision):
    """The eight tasks, things, flowers, pets, tissue and faces."""

    number = 14


class Vision20(Vision):
    """The fourteen tasks, letters, food, clothes and rendered text."""

    number = 20


def _labels(task: str, facts: Facts, dataset: Dataset) -> dict[int, int]:
    # Turns a data set's labels into ours: where it names its classes as we do, by the
    # names, else by their places.
    ours = [_plain(Head(classes=[n]).prompts()[0][0]) for n in facts.names]
    names = getattr(dataset.features[facts.data.label], "names", None)
    theirs = [_plain(name) for name in names] if names else []
    if sorted(theirs) == sorted(ours):
        return {label: ours.index(name) for label, name in enumerate(theirs)}
    found = {int(label) for label in dataset.unique(facts.data.label)}
    if unknown := sorted(found - set(range(len(ours)))):
        raise InputError(
            f"{facts.source} has the label {unknown[0]}, but {task} has "
            f"{len(ours)} classes."
        )
    return {label: label for label in range(len(ours))}


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
