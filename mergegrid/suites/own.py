"""`own`: models that somebody has, and tasks that somebody describes.

Experts are named by path, URL or hub name, or trained; tasks are data sets with their
columns, a prompt or classes, and a metric, or tasks of lm-evaluation-harness.
Everything else is as for other suites.
"""

import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from datasets import Dataset
from pydantic import Field, model_validator

from mergegrid.errors import InputError
from mergegrid.metrics import OF_CHOICES
from mergegrid.models import get_family
from mergegrid.published import Published
from mergegrid.suites.harness_documents import HarnessDocuments
from mergegrid.suites.own_harness import OwnHarness
from mergegrid.suites.own_tasks import OwnTask
from mergegrid.suites.parts import part_file
from mergegrid.suites.suite import Data, Fetch, Progress, Split, Suite, Task
from mergegrid.suites.text_data import (
    CONTINUED,
    Part,
    TextData,
    write_part,
    write_parts,
)


class Own(Suite):
    """Models and tasks of one's own."""

    model_family: str = Field(alias="family", description="family of the models")
    start: str = Field(
        alias="pretrained",
        description="what the experts were fine-tuned from: folder, URL or hub name",
    )
    given: dict[str, Any] = Field(
        alias="architecture",
        default_factory=dict[str, Any],
        description="what the models' own files do not say about them",
    )
    described: dict[str, OwnTask] = Field(
        alias="tasks", min_length=1, description="the tasks by name"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        get_family(self.model_family)
        if len({task.image is None for task in self.described.values()}) > 1:
            raise ValueError("tasks are all of texts, or all of images")
        if not any(task.is_held_in for task in self.described.values()):
            raise ValueError("no task has an expert; name one, or write train: true")
        self._check_model_fits()
        return self

    def _check_model_fits(self) -> None:
        adapts = self.model_family == "adapters"
        family = self.given.get("family") if adapts else self.model_family
        model = self.given.get("base", {}) if adapts else self.given
        is_of_sums = model.get("choices", "sum") == "sum"
        for name, task in self.described.items():
            if task.harness is not None and family != "causal":
                raise ValueError(
                    f"{name} is one of the harness's tasks, which are for the family "
                    f"causal, or adapters of it, and not for {family}"
                )
            normalizes = task.harness is not None or task.scored_by in OF_CHOICES[1:]
            if normalizes and not is_of_sums:
                raise ValueError(
                    f"{name} is scored by {task.scored_by}, which normalizes by "
                    f"itself; leave architecture.choices out"
                )

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "own"

    @property
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""
        return 1

    @property
    def family(self) -> str:
        """The model family that its models belong to."""
        return self.model_family

    def options(self) -> dict[str, Any]:
        """Spell out all options that decide its data, defaults included.

        Returns:
            Plain values by name. Where models and data lie is no part of what they are;
            saved data sets are told apart by their fingerprints.
        """
        tasks: dict[str, Any] = {}
        for name, task in self.described.items():
            kept_out = {"expert", "train", "harness"}
            written = task.model_dump(mode="json", exclude=kept_out)
            written["splits"] = {s: task.ranges[s] for s in _splits(task)}
            if task.harness is not None:
                written["harness"] = task.harness.identity()
            else:
                written["data"].pop("saved")
                written["fingerprints"] = _fingerprints(task)
            tasks[name] = written
        return {"tasks": tasks}

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            Those with an expert, then the others, each in the order they are written.
        """
        ordered = sorted(
            self.described.items(), key=lambda item: not item[1].is_held_in
        )
        return tuple(
            Task(
                name=name,
                version=1,
                category=task.category or name,
                domain=task.domain,
                held_in=task.is_held_in,
                metric=task.scored_by,
            )
            for name, task in ordered
        )

    def architecture(self) -> dict[str, Any]:
        """Describe the models.

        Returns:
            What the pretrained model's own files say, with what is given.
        """
        given = dict(self.given)
        if self._is_of_images:
            given["heads"] = [task.head() for task in self.described.values()]
        family = get_family(self.family)
        return family.describe(self.pretrained().configuration(), given)

    def pretrained(self) -> Published:
        """Tell which model the experts start from.

        Returns:
            The model.
        """
        return Published(self.start)

    def expert(self, task: str) -> Published | None:
        """Tell which model is a task's expert.

        Args:
            task: the name of a held-in task.

        Returns:
            The model; None if it is to be trained.
        """
        place = self.described[task].expert
        return None if place is None else Published(place)

    def counts(self) -> dict[str, int]:
        """Count the examples of every part, opening the data sets.

        Returns:
            Number of examples by `<task>.<split>`.
        """
        return {
            part: len(self._rows(task, split))
            for part, (task, split) in self._parts().items()
        }

    def fetches(self) -> tuple[Fetch, ...]:
        """List what has to be fetched before the data can be prepared.

        Returns:
            The data sets that are not saved, each once.
        """
        found: dict[Fetch, None] = {}
        for task in self.described.values():
            if task.harness is not None:
                fetch = task.harness.data.fetch()
            else:
                fetch = None if task.saved else task.source.fetch()
            found |= {} if fetch is None else {fetch: None}
        return tuple(found)

    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Write all data into a directory, one Parquet file for each part.

        Args:
            directory: an empty directory.
            progress: told about the parts written.
        """
        parts = self._parts()
        for done, (part, (task, split)) in enumerate(parts.items(), start=1):
            selection = task.selection(split)
            if task.harness is not None:
                texts = self._documents(task.harness).texts(selection)
                of = f"the split {selection.split} of {task.harness.task}"
                write_part(part, texts, directory, of=of, schema=CONTINUED)
            elif task.prompt is None:
                self._write_images(directory, part, task, split)
            else:
                texts = Part(task.source, selection, 0, task.prompts())
                write_parts({part: texts}, directory, saved=task.saved)
            if progress is not None:
                progress(done, len(parts))

    def open(self, directory: Path) -> Data:
        """Open data that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The data.
        """
        if not self._is_of_images:
            return TextData(self.name, directory, self._parts().keys())
        from mergegrid.suites.clip_suite import ImageData

        size: int = self.architecture()["vision_cfg"]["image_size"]
        parts = self._parts().keys()
        return ImageData(self.name, directory, parts, size, self._ranges())

    @property
    def _is_of_images(self) -> bool:
        return any(task.image is not None for task in self.described.values())

    def _parts(self) -> dict[str, tuple[OwnTask, Split]]:
        return {
            f"{name}.{split}": (task, split)
            for name, task in self.described.items()
            for split in _splits(task)
        }

    def _dataset(self, task: OwnTask, split: Split) -> Dataset:
        given = (task.image, task.label)
        columns: Collection[str] = [column for column in given if column is not None]
        if task.prompt is not None:
            columns = task.prompts().columns
        name = task.selection(split).split
        return task.source.open(name, columns, task.saved)

    def _rows(self, task: OwnTask, split: Split) -> list[int]:
        selection = task.selection(split)
        if task.harness is not None:
            found, of = self._documents(task.harness).rows(selection), task.harness.task
        else:
            rows = range(len(self._dataset(task, split)))
            found, of = selection.of(rows), str(task.source)
        if not found:
            raise InputError(f"{task.ranges[split]} of {of} has no rows for {split}.")
        return found

    def _documents(self, task: OwnHarness) -> HarnessDocuments:
        if task not in self._opened:
            self._opened[task] = task.open()
        return self._opened[task]

    @functools.cached_property
    def _opened(self) -> dict[OwnHarness, HarnessDocuments]:
        return {}

    def _ranges(self) -> dict[str, tuple[int, int]]:
        ranges: dict[str, tuple[int, int]] = {}
        first = 0
        for name, task in self.described.items():
            ranges[name] = (first, first + len(task.classes) - 1)
            first += len(task.classes)
        return ranges

    def _write_images(
        self, directory: Path, part: str, task: OwnTask, split: Split
    ) -> None:
        from mergegrid.suites.images import encoded_rows, write_images

        assert task.image is not None, "it was checked"
        assert task.label is not None, "it was checked"
        classes = len(task.classes)

        def checked(label: int) -> int:
            if not 0 <= label < classes:
                raise InputError(
                    f"{part}: {task.source} has the label {label}, but there are "
                    f"{classes} classes; name them all, in the order of labels."
                )
            return label

        rows = encoded_rows(
            self._dataset(task, split),
            self._rows(task, split),
            image=task.image,
            label=task.label,
            relabel=checked,
        )
        write_images(part_file(directory, part), rows)


def _splits(task: OwnTask) -> list[Split]:
    """List the splits that are used: all of a held-in task, of others the test."""
    return [split for split in task.ranges if task.is_held_in or split == "test"]


def _fingerprints(task: OwnTask) -> list[str]:
    if task.saved is None:
        return []
    splits = sorted({task.selection(split).split for split in _splits(task)})
    return [task.source.saved_identity(split, task.saved) for split in splits]
