"""What suites of images have in common: CLIP models, published or somebody's own."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mergegrid.errors import InputError, UnknownNameError
from mergegrid.models.open_clip_architecture import (
    PIXEL_DEVIATION,
    PIXEL_MEAN,
    named_model,
)
from mergegrid.models.open_clip_formats import (
    CONFIGURATION,
    OPEN_CLIP_CONFIGURATION,
    read_model_sections,
)
from mergegrid.places import Place
from mergegrid.published import Published
from mergegrid.suites.examples import Examples
from mergegrid.suites.hub_suite import HubSuite
from mergegrid.suites.images import ImageExamples
from mergegrid.suites.parts import find_part, part_file
from mergegrid.suites.suite import Data, Split, nothing_to_pretrain_on

OPENAI = "MIT, by OpenAI"

PUBLISHED: Mapping[tuple[str, str], Published] = {
    ("ViT-B-32", "laion2b_s34b_b79k"): Published(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 1_215_000_000, "MIT"
    ),
    ("ViT-B-32", "openai"): Published(
        "timm/vit_base_patch32_clip_224.openai"
        "@ab5b8ef490e86faa07d3523926b842c765de1de5",
        605_000_000,
        OPENAI,
    ),
    ("ViT-B-16", "openai"): Published(
        "timm/vit_base_patch16_clip_224.openai", 599_000_000, OPENAI
    ),
    ("ViT-L-14", "openai"): Published(
        "timm/vit_large_patch14_clip_224.openai", 1_710_000_000, OPENAI
    ),
}
"""open_clip's models, by architecture and the data that they were trained on."""


class ClipSuite(HubSuite):
    """Images to be classified by a CLIP model."""

    model: Literal["ViT-B-32", "ViT-B-16", "ViT-L-14"] = Field(
        default="ViT-B-32", description="architecture of the published model"
    )

    @model_validator(mode="after")
    def _model_is_published(self) -> Self:
        if (
            self.pretrained_at is None
            and (self.model, self.trained_on) not in PUBLISHED
        ):
            known = sorted(
                model for model, data in PUBLISHED if data == self.trained_on
            )
            raise UnknownNameError(
                f"published model trained on {self.trained_on}", self.model, known
            )
        return self

    @property
    def family(self) -> str:
        """The model family that its models belong to."""
        return "open_clip"

    @property
    @abstractmethod
    def trained_on(self) -> str:
        """What the published model was trained on, open_clip's tag."""

    @abstractmethod
    def heads(self) -> list[dict[str, Any]]:
        """List the classes and their prompts.

        Returns:
            Heads, as `mergegrid.models.open_clip_architecture` has them.
        """

    @property
    def scaled(self) -> bool:
        """Whether embeddings are normalized and scaled."""
        return True

    def options(self) -> dict[str, Any]:
        """Spell out all options that decide its data, defaults included.

        Returns:
            Plain values by name; which models there are, and where data lie, is no part
            of what the data are.
        """
        where = {"model", "pretrained_at", "experts", "saved"}
        return self.model_dump(mode="json", exclude=where)

    def pretrained(self) -> Published:
        """Tell which published model the experts start from.

        Returns:
            The model.
        """
        if self.pretrained_at is not None:
            return Published(self.pretrained_at)
        return PUBLISHED[self.model, self.trained_on]

    def architecture(self) -> dict[str, Any]:
        """Describe the model.

        Returns:
            open_clip's configuration, of the published model by its name, of a
            directory as its files say; and the classes.

        Raises:
            InputError: if the directory's files do not say.
        """
        return self._model() | {
            "heads": self.heads(),
            "scaled": self.scaled,
            "tokenizer": "clip",
        }

    def _model(self) -> dict[str, Any]:
        published = self.pretrained()
        if published.is_on_hub:
            model = named_model(self.model, quick_gelu=self.trained_on == "openai")
            pixels = {"mean": list(PIXEL_MEAN), "deviation": list(PIXEL_DEVIATION)}
            return model | pixels
        place = Place.of(published.place)
        files = {
            name: place.inside(name)
            for name in (OPEN_CLIP_CONFIGURATION, CONFIGURATION)
        }
        texts = {
            name: file.bytes().decode()
            for name, file in files.items()
            if file.is_file()
        }
        try:
            return read_model_sections(texts)
        except InputError as error:
            raise InputError(f"pretrained_at: in {published.place} {error}.") from None

    @property
    def image_size(self) -> int:
        """Pixels along each side of the images that the model takes."""
        return self._model()["vision_cfg"]["image_size"]


class ImageData(Data):
    """Parts of a suite's images, opened.

    Args:
        suite: the suite's name.
        directory: where it prepared them.
        parts: the names of the parts.
        size: pixels along each side of the images that its model takes.
        ranges: the first and last label that examples of a task choose among; tasks
            that are not named choose among all.
    """

    def __init__(
        self,
        suite: str,
        directory: Path,
        parts: Collection[str],
        size: int,
        ranges: Mapping[str, tuple[int, int]],
    ) -> None:
        self._suite = suite
        self._directory = directory
        self._parts = tuple(parts)
        self._size = size
        self._ranges = ranges

    def examples(self, task: str, split: Split) -> ImageExamples:
        """Give one split of one task.

        Args:
            task: the task's name.
            split: held-in tasks have all splits, generalization tasks only a test.

        Returns:
            The examples.
        """
        part = find_part(self._suite, self._parts, task, split)
        file = part_file(self._directory, part)
        return ImageExamples(file, self._size, self._ranges.get(task))

    def pretraining(self) -> tuple[Examples, Examples]:
        """Give nothing to pretrain on: the model is published."""
        error = nothing_to_pretrain_on(self._suite)
        raise error
