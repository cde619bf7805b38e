"""The data of lm-evaluation-harness's tasks: on the hub, in local files, or saved."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from mergegrid.canonical import JSON
from mergegrid.errors import InputError
from mergegrid.suites.harness import quiet_harness
from mergegrid.suites.harness_task import Description
from mergegrid.suites.hub_data import HubData
from mergegrid.suites.suite import Fetch

_FILES = ("data_files", "data_dir")
"""Arguments of `load_dataset` that say where files are."""


@dataclass(frozen=True)
class HarnessData:
    """What a task's documents are read from."""

    task: Description
    """The task."""

    saved: str | None = None
    """Folder of saved data sets in which it is, instead of where the task says."""

    @property
    def path(self) -> str:
        """What the task calls it: a name on the hub, a folder or a kind of files."""
        return self.task.config["dataset_path"]

    @property
    def source(self) -> HubData:
        """The data set, as one of the hub."""
        name, revision = self.task.config.get("dataset_name"), self._options
        return HubData(self.path, name, revision.get("revision"))

    def fetch(self) -> Fetch | None:
        """Say what will be fetched.

        Returns:
            A line of the plan; None if all of it is here.
        """
        here = self.saved is not None or any(self._local())
        return None if here else self.source.fetch()

    def identity(self) -> dict[str, JSON]:
        """Tell what the data are, wherever they lie.

        Returns:
            Of saved data the fingerprints of their splits, of local files their
            digests, of others their name with the revision, if the task says one.
        """
        if self.saved is not None:
            prints = {
                split: self.source.saved_identity(split, self.saved)
                for split in self.splits()
            }
            return {"name": str(self.source), "fingerprints": prints}
        files = {
            str(name): hashlib.sha256(file.read_bytes()).hexdigest()
            for name, file in self._local()
        }
        options = {
            key: value
            for key, value in self._options.items()
            if not (files and key in _FILES)
        }
        name = Path(self.path).name if Path(self.path).is_dir() else str(self.source)
        return {"name": name, "files": files, "options": options}

    def splits(self) -> list[str]:
        """Name the splits that the task uses.

        Returns:
            Their names in the data set.
        """
        said = self.task.config
        examples = said.get("fewshot_config") or {}
        named = [said.get(key) for key in said if key.endswith("_split")]
        return sorted({split for split in [*named, examples.get("split")] if split})

    def open(self) -> Mapping[str, Dataset]:
        """Open it, downloading it if it is not here.

        Returns:
            The splits by name.

        Raises:
            InputError: if there is no such data set, or it cannot be reached.
        """
        if self.saved is not None:
            source, saved = self.source, self.saved
            return {split: source.open(split, (), saved) for split in self.splits()}
        name = self.task.config.get("dataset_name")
        try:
            with quiet_harness() if self.fetch() is None else nullcontext():
                return load_dataset(self.path, name, **self._options)
        except Exception as error:  # of any reader of files
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(
                f"Cannot open the data set {self.source} of the harness's task "
                f"{self.task.name} ({reason}). Save it where it can be read and name "
                f"the folder as `saved`."
            ) from None

    @property
    def _options(self) -> dict[str, Any]:
        options = dict(self.task.config.get("dataset_kwargs") or {})
        options.pop("trust_remote_code", None)  # no code of a data set is run
        return options

    def _local(self) -> Iterator[tuple[Path, Path]]:
        """List the files on this machine, each after its name in its folder."""
        folders = [Path(self.path), Path(self._options.get("data_dir") or self.path)]
        for folder in dict.fromkeys(folders):
            if folder.is_dir():
                files = (file for file in folder.glob("**/*") if file.is_file())
                yield from ((file.relative_to(folder), file) for file in sorted(files))
        for pattern in _patterns(self._options.get("data_files")):
            root = Path(Path(pattern).anchor)
            for file in sorted(root.glob(str(Path(pattern).relative_to(root)))):
                yield Path(file.name), file


def _patterns(files: JSON) -> Iterator[str]:
    match files:
        case str():
            yield files
        case list():
            yield from files
        case Mapping():
            for part in files.values():
                yield from _patterns(part)
        case _:
            pass
