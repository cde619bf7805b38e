"""`glyphs`: compositional generalization over drawn characters, all drawn at run time.

A miniature of the image classification of the Realistic Evaluation paper (Tam et al.,
arXiv:2409.18314, section 4): a task is a category of classes in a domain. Each category
is held in, with an expert of its own, in one domain; the category in every other domain
measures whether merging experts combines what one knows about the category with what
others know about the domain. The model chooses among all classes of all categories.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor
from torch.nn import functional

from mergegrid.canonical import digest
from mergegrid.suites.examples import TensorExamples
from mergegrid.suites.glyph_characters import (
    CANVAS,
    CATEGORIES,
    EXTENT,
    class_name,
    masks,
)
from mergegrid.suites.glyph_styles import STYLES, draw
from mergegrid.suites.parts import find_part
from mergegrid.suites.suite import Progress, Split, Suite, Task

DOMAINS = tuple(STYLES)

DIGITS = "digits"
"""The category that scikit-learn has handwritten images of."""

HANDWRITTEN = "handwritten"
"""The domain of those images."""

FILE = "glyphs.safetensors"

PRETRAINING = ("pretraining", "pretraining_validation")
"""Parts of the data that no task owns: to pretrain on, and to stop early by."""


class Glyphs(Suite):
    """Characters in categories, drawn in the styles of six domains."""

    seed: int = Field(default=0, ge=0, description="seed of everything drawn")
    categories: int = Field(
        default=12, ge=1, le=len(CATEGORIES), description="number of categories"
    )
    classes_per_category: int = Field(
        default=4, ge=2, le=6, description="number of characters in each category"
    )
    image_size: int = Field(
        default=32, ge=8, le=64, description="pixels along each side of an image"
    )
    jitter: float = Field(
        default=1.0,
        ge=0,
        le=4,
        description="factor on the variation of angle, place and size",
    )
    train: int = Field(
        default=96, ge=1, description="images per class to train an expert on"
    )
    validation: int = Field(
        default=12, ge=1, description="images per class to validate on"
    )
    test: int = Field(
        default=24, ge=1, description="images per class to test a held-in task on"
    )
    generalization: int = Field(
        default=4, ge=1, description="images per class to test other tasks on"
    )
    digits: bool = Field(
        default=True,
        description="whether handwritten digits are one more generalization task",
    )
    pretraining: int = Field(
        default=64,
        ge=1,
        description="images per class and domain to pretrain on",
    )
    pretraining_zoom: float = Field(
        default=0.88,
        gt=0,
        le=1.2,
        description="size of the characters in pretraining, relative to the tasks'",
    )
    pretraining_exposure: float = Field(
        default=0.65,
        gt=0,
        le=1,
        description="brightness of images in pretraining, relative to the tasks'",
    )
    patch_size: int = Field(
        default=8, ge=4, description="pixels along each side of the model's patches"
    )
    width: int = Field(
        default=64, ge=32, multiple_of=32, description="width of the vision tower"
    )
    layers: int = Field(default=3, ge=1, description="layers of the vision tower")

    @model_validator(mode="after")
    def _patches_tile_the_image(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size = {self.image_size} is no multiple of patch_size = "
                f"{self.patch_size}"
            )
        return self

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "glyphs"

    @property
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""
        return 1

    @property
    def family(self) -> str:
        """The model family that its models belong to."""
        return "open_clip"

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            Each category in its own domain, held in; then each category in every other
            domain; then handwritten digits.
        """
        pairs = [(name, self._home(name)) for name in self._categories()]
        pairs += [
            (name, domain)
            for name in self._categories()
            for domain in DOMAINS
            if domain != self._home(name)
        ]
        if self.digits:
            pairs.append((DIGITS, HANDWRITTEN))
        return tuple(
            Task(
                name=f"{category}/{domain}",
                version=self.version,
                category=category,
                domain=domain,
                held_in=domain == self._home(category),
            )
            for category, domain in pairs
        )

    def architecture(self) -> dict[str, Any]:
        """Describe the model: a small vision transformer and a smaller text tower.

        Returns:
            open_clip's model configuration, and every class by the Unicode name of its
            character, which is its prompt, category after category.
        """
        return {
            "heads": [
                {
                    "classes": [
                        class_name(character)
                        for category in self._categories()
                        for character in self._characters(category)
                    ]
                }
            ],
            "embed_dim": 64,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.width,
                "head_width": 32,
                "layers": self.layers,
            },
            "text_cfg": {"width": 64, "heads": 2, "layers": 1},
        }

    def counts(self) -> dict[str, int]:
        """Count the images of every part of the data.

        Returns:
            Number of images by `<task>.<split>`, and of those to pretrain on.
        """
        counts = {
            part.name: part.examples * self.classes_per_category
            for part in self._parts()
        }
        if self.digits:
            name = f"{DIGITS}/{HANDWRITTEN}.test"
            counts[name] = self.test * self.classes_per_category
        return counts

    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Draw all images, several tasks at a time, into one file.

        Args:
            directory: an empty directory.
            progress: told about the parts drawn.
        """
        parts = list(self._parts())
        tensors: dict[str, Tensor] = {}
        with ThreadPoolExecutor() as pool:  # almost all time is spent outside Python
            for done, drawn in enumerate(pool.map(self._draw, parts), start=1):
                tensors |= drawn
                if progress is not None:
                    progress(done, len(parts))
        if self.digits:
            tensors |= self._handwritten()
        save_file(tensors, directory / FILE)

    def open(self, directory: Path) -> "GlyphData":
        """Open data that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The data, read as they are asked for.
        """
        return GlyphData(self, directory / FILE)

    def pretraining_parts(self, part: str) -> tuple[str, ...]:
        """Name the pairs that the model is pretrained on.

        Args:
            part: a name from `PRETRAINING`.

        Returns:
            Names in the data file, without their last component.
        """
        return tuple(item.name for item in self._parts() if item.split == part)

    def _categories(self) -> tuple[str, ...]:
        return tuple(islice(CATEGORIES, self.categories))

    def _characters(self, category: str) -> str:
        return CATEGORIES[category][: self.classes_per_category]

    def _home(self, category: str) -> str:
        return DOMAINS[self._categories().index(category) % len(DOMAINS)]

    def _parts(self) -> Iterator["_Part"]:
        for task in self.tasks():
            if task.held_in:
                yield _Part(task.category, task.domain, "train", self.train)
                yield _Part(task.category, task.domain, "validation", self.validation)
            if task.domain != HANDWRITTEN:
                examples = self.test if task.held_in else self.generalization
                yield _Part(task.category, task.domain, "test", examples)
        for category in self._categories():
            for domain in DOMAINS:
                yield _Part(category, domain, PRETRAINING[0], self.pretraining)
                yield _Part(category, domain, PRETRAINING[1], 2)

    def _draw(self, part: "_Part") -> dict[str, Tensor]:
        key = [self.seed, part.category, part.domain, part.split]
        generator = Generator().manual_seed(int(digest(key, length=15), base=16))
        first = self._categories().index(part.category) * self.classes_per_category
        inks: list[Tensor] = []
        labels: list[Tensor] = []
        for label, character in enumerate(self._characters(part.category), first):
            fonts = torch.from_numpy(masks(part.category, character))
            chosen = torch.randint(len(fonts), (part.examples,), generator=generator)
            inks.append(fonts[chosen])
            labels.append(torch.full((part.examples,), label))
        is_pretraining = part.split in PRETRAINING
        images = draw(
            torch.cat(inks).unsqueeze(1).float() / 255,
            part.domain,
            size=self.image_size,
            jitter=self.jitter,
            zoom=self.pretraining_zoom if is_pretraining else 1.0,
            exposure=self.pretraining_exposure if is_pretraining else 1.0,
            generator=generator,
        )
        return {
            f"{part.name}.image": images,
            f"{part.name}.label": torch.cat(labels),
        }

    def _handwritten(self) -> dict[str, Tensor]:
        from sklearn.datasets import load_digits

        pixels, digits = load_digits(return_X_y=True)
        images: list[Tensor] = []
        labels: list[Tensor] = []
        for label, character in enumerate(self._characters(DIGITS)):
            chosen = pixels[digits == int(character)][: self.test]
            paper = 1 - torch.from_numpy(chosen).float().view(-1, 1, 8, 8) / 16
            extent = round(self.image_size * EXTENT / CANVAS)
            size = (extent, extent)
            margin = (self.image_size - extent) // 2
            rest = self.image_size - extent - margin
            large = functional.interpolate(paper, size=size, mode="bilinear")
            large = functional.pad(large, (margin, rest, margin, rest), value=1.0)
            images.append(large.mul(255).round().to(torch.uint8).repeat(1, 3, 1, 1))
            labels.append(torch.full((len(chosen),), label))
        name = f"{DIGITS}/{HANDWRITTEN}.test"
        return {f"{name}.image": torch.cat(images), f"{name}.label": torch.cat(labels)}


class GlyphData:
    """Images that `Glyphs.prepare` drew.

    Args:
        suite: the suite that drew them.
        path: the file.
    """

    def __init__(self, suite: Glyphs, path: Path) -> None:
        self._suite = suite
        self._path = path

    def examples(self, task: str, split: Split) -> TensorExamples:
        """Give one split of one task.

        Args:
            task: the task's name.
            split: held-in tasks have all splits, generalization tasks only a test.

        Returns:
            The examples.
        """
        part = find_part("glyphs", self._suite.counts(), task, split)
        return self._read((part,))

    def pretraining(self) -> tuple[TensorExamples, TensorExamples]:
        """Give what the pretrained model is trained on.

        Returns:
            Examples to train on, and examples to stop early by.
        """
        train, validation = map(self._suite.pretraining_parts, PRETRAINING)
        return self._read(train), self._read(validation)

    def _read(self, parts: tuple[str, ...]) -> TensorExamples:
        with safe_open(self._path, framework="pt") as file:
            return TensorExamples(
                {
                    name: torch.cat(
                        [file.get_tensor(f"{part}.{name}") for part in parts]
                    )
                    for name in ("image", "label")
                }
            )


@dataclass(frozen=True)
class _Part:
    """Images that are drawn together: one split of one pair."""

    category: str
    domain: str
    split: str
    examples: int
    """Images per class."""

    @property
    def name(self) -> str:
        return f"{self.category}/{self.domain}.{self.split}"
