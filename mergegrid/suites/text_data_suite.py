"""What suites of texts have in common: a published T5, and data sets with prompts."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from mergegrid.canonical import digest
from mergegrid.errors import InputError
from mergegrid.model_config import CONFIG, INCIDENTAL, parse_config
from mergegrid.places import Place
from mergegrid.published import Published
from mergegrid.suites.prompts import load_prompts
from mergegrid.suites.suite import Data, Fetch, Progress, Suite
from mergegrid.suites.text_data import Part, TextData, write_parts
from mergegrid.suites.text_data_models import Model

WHERE = ("saved", "pretrained_at")
"""Options that say where things lie, and nothing about what they are."""


class TextSuite(Suite):
    """Tasks made of data sets with prompts, for a sequence-to-sequence model."""

    saved: str | None = Field(
        default=None,
        description="folder of saved data sets to use instead of the hub's",
    )
    pretrained_at: str | None = Field(
        default=None,
        description="folder, URL or hub name of the pretrained model, instead of the "
        "published one; its own configuration counts where it can be read",
    )
    most: int | None = Field(
        default=None,
        ge=1,
        description="at most so many rows of each split of each task; all if not given",
    )

    @property
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""
        return 1

    @property
    def family(self) -> str:
        """The model family that its models belong to."""
        return "seq2seq"

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """Describe every split of every task.

        Returns:
            The parts by `<task>.<split>`, in the order of tasks.
        """

    @abstractmethod
    def start(self) -> Model:
        """Name the published model that experts start from.

        Returns:
            The model.
        """

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """Most tokens of a question."""

    def options(self) -> dict[str, Any]:
        """Spell out all options that decide its data, defaults included.

        Returns:
            Plain values, and a digest of the wording of each data set's prompts.
        """
        names = sorted({part.prompts for part in self.parts().values()})
        wordings = {
            name: digest(load_prompts(name).model_dump(mode="json")) for name in names
        }
        options = self.model_dump(mode="json", exclude=set(self._whereabouts()))
        return options | {"prompts": wordings}

    def architecture(self) -> dict[str, Any]:
        """Describe the model.

        Returns:
            What `seq2seq` makes models from.
        """
        return {
            "config": self._config(),
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": 64,
        }

    def pretrained(self) -> Published:
        """Tell which published model the experts start from.

        Returns:
            The model.
        """
        if self.pretrained_at is not None:
            return Published(self.pretrained_at)
        return self.start().published

    def counts(self) -> dict[str, int]:
        """Count the texts of every part.

        Returns:
            Number of texts by `<task>.<split>`; from the sizes of the hub's data sets,
            or from the saved ones.
        """
        return {name: part.count(self.saved) for name, part in self.parts().items()}

    def fetches(self) -> tuple[Fetch, ...]:
        """List the data sets that have to be fetched.

        Returns:
            Each once; none if they are saved.
        """
        return () if self.saved else tuple(self._fetches())

    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Fill in all prompts and write the texts, one Parquet file for each part.

        Args:
            directory: an empty directory.
            progress: told about the parts written.
        """
        write_parts(self.parts(), directory, saved=self.saved, progress=progress)

    def open(self, directory: Path) -> Data:
        """Open texts that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The texts.
        """
        return TextData(self.name, directory, self.parts().keys())

    def _fetches(self) -> Iterator[Fetch]:
        sources = dict.fromkeys(part.source for part in self.parts().values())
        for source in sources:
            yield source.fetch()

    def _whereabouts(self) -> tuple[str, ...]:
        return WHERE

    def _config(self) -> dict[str, Any]:
        published = self.pretrained()
        if published.is_on_hub:
            return dict(self.start().config)
        file = Place.of(published.place).inside(CONFIG)
        if not file.is_file():
            raise InputError(
                f"There is no model at {published.place}: a folder with its {CONFIG} "
                f"and safetensors was expected, or OWNER/NAME on the hub."
            )
        found = parse_config(file)
        kept = found.keys() - INCIDENTAL | {"vocab_size"} & found.keys()
        return {key: found[key] for key in sorted(kept)}
