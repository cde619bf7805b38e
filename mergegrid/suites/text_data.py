"""Texts from data sets: which rows make which split of which task, and how they lie.

A part is one split of one task. It says which rows of a data set it is made of and by
which prompts; writing it fills the templates in and leaves a Parquet file with a text
in each row, which is read back as it is.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mergegrid.errors import InputError
from mergegrid.suites.examples import Examples
from mergegrid.suites.parts import find_part, part_file
from mergegrid.suites.prompts import Prompts, Row, at, load_prompts
from mergegrid.suites.suite import Fetch, Progress, Split, nothing_to_pretrain_on
from mergegrid.suites.texts import Text, Texts

Wordings: TypeAlias = Literal["first", "in_turn", "all"]
"""The first template for every row, one template after the other, or every template for
every row."""

ANSWERED = pa.schema(
    [
        ("prompt", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("choices", pa.list_(pa.string())),
        ("template", pa.int32()),
    ]
)
"""Columns of texts whose answers are set off as a model's architecture says."""

CONTINUED = ANSWERED.append(pa.field("separator", pa.string()))
"""Columns of texts that say it themselves."""

_BATCH = 4096


Rows: TypeAlias = Any
"""Rows of one split, by index, each a `Row`; the types of `datasets` say otherwise."""


class Source(Protocol):
    """Where rows come from: a data set of the hub, or files that one has."""

    def fetch(self) -> Fetch:
        """Say what will be fetched."""
        ...

    def open(
        self, split: str, columns: Collection[str], saved: str | None = None
    ) -> Rows:
        """Open one split, see `HubData.open`."""
        ...


@dataclass(frozen=True)
class Selection:
    """Some rows of a split, as a slice of them."""

    split: str
    """The split's name in the data set."""

    start: int | None = None
    """The first row; negative numbers count from the end."""

    stop: int | None = None
    """The row after the last."""

    seed: int | None = None
    """Decides the order in which the rows are put before; None to leave it."""

    unit: Literal["rows", "percent"] = "rows"
    """What `start` and `stop` count; percents are rounded to the nearest row."""

    def of(self, indices: Sequence[int]) -> list[int]:
        """Select rows.

        Args:
            indices: those there are.

        Returns:
            Those selected, in order.
        """
        order = list(indices)
        if self.seed is not None:
            # The order in which the authors of TIES shuffled their lists.
            random.Random(self.seed).shuffle(order)
        return order[
            self._row(self.start, len(order)) : self._row(self.stop, len(order))
        ]

    def _row(self, bound: int | None, rows: int) -> int | None:
        if bound is None or self.unit == "rows":
            return bound
        return round((bound % 100 if bound < 0 else bound) * rows / 100)


@dataclass(frozen=True)
class Filter:
    """Rows that a task leaves out."""

    path: str
    """Where to look in a row, see `Value.column`."""

    value: str | None = None
    """What must be there; None for anything that is not empty."""

    def keeps(self, row: Row) -> bool:
        """Tell whether a row stays.

        Args:
            row: the row.

        Returns:
            Whether it does.
        """
        found = at(row, self.path)
        return bool(found) if self.value is None else found == self.value


@dataclass(frozen=True)
class Part:
    """One split of one task."""

    source: Source
    """Where its rows come from."""

    selection: Selection
    """Which rows of it."""

    size: int
    """How many rows the source's split holds, those left out not counted."""

    prompts: str | Prompts
    """Its prompts, or their name, see `load_prompts`."""

    language: str = "en"
    """The language of its templates."""

    wordings: Wordings = "first"
    """Which templates are used."""

    keep: Filter | None = None
    """Which rows are left out; None for none."""

    most: int | None = None
    """At most so many rows; None for all."""

    def wording(self) -> Prompts:
        """Give its prompts.

        Returns:
            The prompts.
        """
        named = self.prompts
        return load_prompts(named) if isinstance(named, str) else named

    def count(self, saved: str | None = None) -> int:
        """Count the texts.

        Args:
            saved: a folder of saved data sets to look into; without it, nothing is
                read.

        Returns:
            How many there will be.
        """
        if saved is None:
            rows = len(self.selection.of(range(self.size))[: self.most])
        else:
            rows = len(self._selected(self._open(saved)))
        wordings = self.wording().wordings(self.language)
        return rows * (len(wordings) if self.wordings == "all" else 1)

    def texts(self, saved: str | None = None) -> Iterator[Text]:
        """Make the texts.

        Templates are told apart only where a row is asked with each of them.

        Args:
            saved: a folder of saved data sets to use instead of the hub.

        Yields:
            The texts, row after row.
        """
        rows = self._open(saved)
        prompts = self.wording()
        wordings = prompts.wordings(self.language)
        for place, index in enumerate(self._selected(rows)):
            row = rows[index]
            match self.wordings:
                case "first":
                    yield prompts.text(row, wordings[0])
                case "in_turn":
                    yield prompts.text(row, wordings[place % len(wordings)])
                case "all":
                    for number, template in enumerate(wordings):
                        yield prompts.text(row, template, number)

    def _open(self, saved: str | None) -> Rows:
        columns = self.wording().columns | self._filtered_columns
        return self.source.open(self.selection.split, columns, saved)

    @property
    def _filtered_columns(self) -> set[str]:
        return {self.keep.path.partition(".")[0]} if self.keep else set()

    def _selected(self, rows: Rows) -> list[int]:
        kept: Sequence[int] = range(len(rows))
        if self.keep is not None:
            keep = self.keep
            kept = [index for index, row in enumerate(rows) if keep.keeps(row)]
        return self.selection.of(kept)[: self.most]


def write_parts(
    parts: Mapping[str, Part],
    directory: Path,
    *,
    saved: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Write parts, see `write_part`.

    Args:
        parts: by name.
        directory: where to.
        saved: a folder of saved data sets to use instead of the hub.
        progress: told about the parts written.
    """
    for done, (name, part) in enumerate(parts.items(), start=1):
        of = f"the split {part.selection.split} of {part.source}"
        write_part(name, part.texts(saved), directory, of=of)
        if progress is not None:
            progress(done, len(parts))


def write_part(
    name: str,
    texts: Iterable[Text],
    directory: Path,
    *,
    of: str,
    schema: pa.Schema = ANSWERED,
) -> None:
    """Write one part into a Parquet file of its own.

    Args:
        name: its name.
        texts: its texts.
        directory: where to.
        of: what they are a part of, for messages.
        schema: the columns.

    Raises:
        InputError: if there are no texts, or one of them cannot be made.
    """
    try:
        written = _write(texts, part_file(directory, name), schema)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if not written:
        raise InputError(
            f"{name}: nothing is left of {of}; take fewer examples for the task's "
            f"other splits."
        )


def _write(texts: Iterable[Text], path: Path, schema: pa.Schema) -> int:
    written, rest = 0, iter(texts)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(rest, _BATCH)):
            columns = {
                name: [getattr(text, name) for text in batch] for name in schema.names
            }
            writer.write_table(pa.table(columns, schema=schema))
            written += len(batch)
    return written


class TextData:
    """Texts that `write_parts` wrote.

    Args:
        suite: whose they are.
        directory: where they are.
        parts: the names of the parts, `<task>.<split>`.
    """

    def __init__(self, suite: str, directory: Path, parts: Collection[str]) -> None:
        self._suite = suite
        self._directory = directory
        self._parts = tuple(parts)

    def examples(self, task: str, split: Split) -> Examples:
        """Give one split of one task.

        Args:
            task: the task's name.
            split: held-in tasks have all splits, generalization tasks only a test.

        Returns:
            The texts.
        """
        part = find_part(self._suite, self._parts, task, split)
        rows = pq.read_table(part_file(self._directory, part)).to_pylist()
        return cast(
            "Examples", Texts([*map(Text.from_row, rows)])
        )  # until the family encodes them

    def pretraining(self) -> tuple[Examples, Examples]:
        """Say that there is nothing to pretrain on."""
        error = nothing_to_pretrain_on(self._suite)
        raise error
