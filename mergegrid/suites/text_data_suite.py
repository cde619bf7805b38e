"""What suites of texts have in common: a published T5, and data sets with prompts."""

import functools
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from mergegrid.canonical import digest
from mergegrid.models import get_family
from mergegrid.published import Published
from mergegrid.suites.hub_suite import HubSuite
from mergegrid.suites.suite import Data, Fetch, Progress
from mergegrid.suites.text_data import Part, TextData, write_parts
from mergegrid.suites.text_data_models import Model

NOT_OF_DATA = frozenset({"saved", "pretrained_at", "experts", "model", "story_cloze"})
"""Options of suites that say which models there are or where things lie, and nothing
about what the data are."""


class TextSuite(HubSuite):
    """Tasks made of data sets with prompts, for a sequence-to-sequence model."""

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
        used = {part.prompts: part.wording() for part in self.parts().values()}
        wordings = {
            str(name): digest(prompts.model_dump(mode="json"))
            for name, prompts in used.items()
        }
        own = self.model_dump(mode="json", exclude=set(NOT_OF_DATA))
        return own | {"prompts": wordings}

    def architecture(self) -> dict[str, Any]:
        """Describe the model.

        Returns:
            What `seq2seq` makes models from: of a model on the hub what is known of
            the published one, of one elsewhere what its own files say.
        """
        lengths = {"prompt_tokens": self.prompt_tokens, "answer_tokens": 64}
        published = self.pretrained()
        if published.is_on_hub:  # and need not be here
            return {"config": dict(self.start().config), **lengths}
        return get_family("seq2seq").describe(published.configuration(), lengths)

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
        return dict(self._counts)

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

    @functools.cached_property
    def _counts(self) -> dict[str, int]:
        return {name: part.count(self.saved) for name, part in self.parts().items()}

    def _fetches(self) -> Iterator[Fetch]:
        sources = dict.fromkeys(part.source for part in self.parts().values())
        for source in sources:
            yield source.fetch()
