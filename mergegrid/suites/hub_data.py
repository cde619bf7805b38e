"""Data sets as the Hugging Face Hub has them: fetched, or saved in a folder before.

A folder of saved data sets stands in for the hub: for the data set OWNER/NAME in the
configuration CONFIG it holds OWNER--NAME/CONFIG (`default` where it has none), as
`DatasetDict.save_to_disk` writes it. Everything after opening is the same for both.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetNotFoundError

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.suites.suite import Fetch


@dataclass(frozen=True)
class HubData:
    """A data set on the hub."""

    name: str
    """`OWNER/NAME`, or a name alone where it has no owner."""

    config: str | None = None
    """Its configuration, if it has several."""

    revision: str | None = None
    """The commit, tag or branch that is used."""

    is_export: bool = False
    """Whether the revision is of the Parquet files that the hub exports, where each
    configuration is a folder; for data sets that are published as programs."""

    bytes: int = 0
    """Size of what is downloaded, about; 0 if it is not known."""

    licence: str = ""
    """What its publisher lets one do with it; empty if it is not known."""

    def __str__(self) -> str:
        """Name it as messages do."""
        return f"{self.name}/{self.config}" if self.config else self.name

    def fetch(self) -> Fetch:
        """Say what will be fetched.

        Returns:
            A line of the plan.
        """
        what = f"{self}@{self.revision}" if self.revision else str(self)
        return Fetch(what, self.bytes, self.licence)

    def folder(self, saved: Path) -> Path:
        """Tell where it is among saved data sets.

        Args:
            saved: the folder of saved data sets.

        Returns:
            Its own folder there.
        """
        return saved / self.name.replace("/", "--") / (self.config or "default")

    def open(
        self, split: str, columns: Collection[str], saved: str | None = None
    ) -> Dataset:
        """Open one split, downloading it if it is not here.

        Args:
            split: its name there.
            columns: those that will be read.
            saved: a folder of saved data sets to use instead of the hub.

        Returns:
            The split.

        Raises:
            InputError: if there is no such data set, or it cannot be reached.
            UnknownNameError: if it has no such split or column.
        """
        found = self._saved(split, Path(saved)) if saved else self._fetched(split)
        for column in sorted(columns):
            if column not in found.column_names:
                raise UnknownNameError(f"column of {self}", column, found.column_names)
        return found

    def saved_identity(self, split: str, saved: str) -> str:
        """Tell what a saved split is, as `datasets` does.

        Args:
            split: its name.
            saved: the folder of saved data sets.

        Returns:
            A digest.
        """
        self._saved(split, Path(saved))  # or say what is not there
        state = self.folder(Path(saved).expanduser()) / split / "state.json"
        return json.loads(state.read_text(encoding="utf-8"))["_fingerprint"]

    def _saved(self, split: str, saved: Path) -> Dataset:
        folder = self.folder(saved.expanduser())
        if not (folder / "dataset_dict.json").is_file():
            raise InputError(
                f"There is no data set {self} in {saved}: expected a folder {folder}, "
                f"as `datasets` saves it."
            )
        splits: Any = load_from_disk(str(folder))
        if split not in splits:
            raise UnknownNameError(f"split of {self}", split, splits)
        return splits[split]

    def _fetched(self, split: str) -> Dataset:
        folder = (self.config or "default") if self.is_export else None
        config = None if self.is_export else self.config
        try:
            return load_dataset(
                self.name, config, data_dir=folder, split=split, revision=self.revision
            )
        except (DatasetNotFoundError, ConnectionError, OSError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"Cannot fetch the data set {self}, split {split} ({reason}). Save it "
                f"where there is a network and name the folder as `saved`."
            ) from None
