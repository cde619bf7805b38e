"""`domainnet`: compositional generalization over categories and domains of images.

The image classification of the Realistic Evaluation paper (Tam et al.,
arXiv:2409.18314, section 4.1 and appendix C.1): a task is one of 24 categories of
classes in one of six domains. Each category is held in, with an expert of its own, in
one domain; the other 120 pairs measure generalization. The model chooses among the
classes of all categories.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import Field

from mergegrid.documents import read_mapping
from mergegrid.errors import UnknownNameError
from mergegrid.models.open_clip_architecture import label_of
from mergegrid.suites.clip_suite import ClipSuite, ImageData
from mergegrid.suites.hub_data import HubData
from mergegrid.suites.images import encoded_rows, write_images
from mergegrid.suites.parts import part_file
from mergegrid.suites.suite import Fetch, Progress, Task

_FACTS = read_mapping(Path(__file__).with_suffix(".yaml"))

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    category: tuple(names.split(", "))
    for category, names in _FACTS["categories"].items()
}
"""Classes by category; `bandage` and `nail` are in two."""

DOMAINS: Mapping[str, Mapping[str, int]] = _FACTS["domains"]
"""Number of images of the official `train` and `test` lists by domain."""

CLASSES = 345
"""Different classes, of all categories."""

CATEGORIES_PER_DOMAIN = 4
"""So many categories in a row are held in in the same domain."""

DATA = HubData(
    "wltjr1007/DomainNet",
    revision="8f5b9a174c161881d17be113cce1d7fe946ccc52",
    bytes=18_500_000_000,
    licence="fair use notice by its authors, for research",
)
"""The official lists with their images."""

COLUMNS = ("image", "label", "domain")


class DomainNet(ClipSuite):
    """Categories of everyday things in six domains, from clip art to sketches."""

    seed: int = Field(default=42, ge=0, description="decides what is for validation")
    validation: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share of the official training images that is for validation",
    )
    underscores: bool = Field(
        default=True,
        description="whether prompts keep the underscores of class names, as in the "
        "paper's code",
    )

    @property
    def name(self) -> str:
        """Its name in experiments and rows."""
        return "domainnet"

    @property
    def version(self) -> int:
        """Raised whenever the data change; part of every key."""
        return 1

    @property
    def trained_on(self) -> str:
        """What the published model was trained on, open_clip's tag."""
        return "laion2b_s34b_b79k"

    @property
    def scaled(self) -> bool:
        """Whether embeddings are normalized and scaled: not in this paper's code."""
        return False

    def tasks(self) -> tuple[Task, ...]:
        """List the tasks.

        Returns:
            The 24 held-in pairs in the order of categories, then the 120 others.
        """
        pairs = [(category, home(category)) for category in CATEGORIES]
        pairs += [
            (category, domain)
            for category in CATEGORIES
            for domain in DOMAINS
            if domain != home(category)
        ]
        return tuple(
            Task(
                name=f"{category}/{domain}",
                version=1,
                category=category,
                domain=domain,
                held_in=domain == home(category),
            )
            for category, domain in pairs
        )

    def heads(self) -> list[dict[str, Any]]:
        """List the classes of all categories, 347 with the two that are in two.

        Returns:
            One head.
        """
        names = [name for category in CATEGORIES.values() for name in category]
        if not self.underscores:
            names = [name.replace("_", " ") for name in names]
        return [{"classes": names, "templates": ["A photo of a {}"]}]

    def counts(self) -> dict[str, int]:
        """Count the images of every part of the data, about.

        Returns:
            Number of images by `<task>.<split>`, as if a domain's images were the same
            number for every class, which for `quickdraw` they are.
        """
        counts: dict[str, int] = {}
        for task in self.tasks():
            share = len(CATEGORIES[task.category]) / CLASSES
            images = DOMAINS[task.domain]
            if task.held_in:
                for_validation = images["train"] * share * self.validation
                counts[f"{task.name}.validation"] = round(for_validation)
                counts[f"{task.name}.train"] = round(
                    images["train"] * share - for_validation
                )
            counts[f"{task.name}.test"] = round(images["test"] * share)
        return counts

    def fetches(self) -> tuple[Fetch, ...]:
        """List what has to be fetched before the data can be prepared.

        Returns:
            DomainNet; nothing if it is saved.
        """
        return () if self.saved else (DATA.fetch(),)

    def prepare(self, directory: Path, *, progress: Progress | None = None) -> None:
        """Write every pair's images, as they are encoded.

        Args:
            directory: an empty directory.
            progress: told about the parts written.
        """
        parts = self.counts()
        done = 0
        for official in ("train", "test"):
            dataset = DATA.open(official, COLUMNS, self.saved)
            classes = dataset.features["label"].names
            labels = _labels(classes)
            chosen = self._chosen(dataset, official, classes)
            for part in [part for part in parts if part in chosen]:
                category = part.partition("/")[0]
                rows = encoded_rows(
                    dataset,
                    chosen[part],
                    image="image",
                    label="label",
                    relabel=labels[category].__getitem__,
                )
                write_images(part_file(directory, part), rows)
                done += 1
                if progress is not None:
                    progress(done, len(parts))

    def open(self, directory: Path) -> ImageData:
        """Open data that `prepare` wrote.

        Args:
            directory: where they are.

        Returns:
            The data, decoded as they are asked for.
        """
        return ImageData(
            self.name, directory, self.counts().keys(), self.image_size, {}
        )

    def _chosen(
        self, dataset: Dataset, official: str, classes: list[str]
    ) -> dict[str, list[int]]:
        """Find the rows of every part that comes from an official list."""
        domains = _named(dataset, "domain")
        is_train = official == "train"
        held = frozenset(self._for_validation(domains) if is_train else ())
        categories = {
            label: [category for category, own in CATEGORIES.items() if name in own]
            for label, name in enumerate(classes)
        }
        found: dict[str, list[int]] = {
            part: [] for part in self.counts() if part.endswith(".test") != is_train
        }
        for row, (label, domain) in enumerate(
            zip(dataset["label"], domains, strict=True)
        ):
            split = official if row not in held else "validation"
            for category in categories[label]:
                part = f"{category}/{domain}.{split}"
                if part in found:
                    found[part].append(row)
        return found

    def _for_validation(self, domains: list[str]) -> list[int]:
        """Shuffle each domain's list, and take the first of it (Muqeeth et al.)."""
        held: list[int] = []
        for domain in DOMAINS:
            rows = [row for row, own in enumerate(domains) if own == domain]
            random.Random(self.seed).shuffle(rows)
            held += rows[: round(len(rows) * self.validation)]
        return held


def home(category: str) -> str:
    """Tell in which domain a category is held in.

    Args:
        category: its name.

    Returns:
        The domain.
    """
    return list(DOMAINS)[list(CATEGORIES).index(category) // CATEGORIES_PER_DOMAIN]


def _labels(classes: list[str]) -> dict[str, dict[int, int]]:
    # For each category: the data set's labels to the head's. A class that is in two
    # categories has two rows in the head, of which the first stands for both.
    names = [(name,) for category in CATEGORIES.values() for name in category]
    rows = {name: row for (name,), row in zip(names, label_of(names), strict=True)}
    found: dict[str, dict[int, int]] = {}
    for category, own in CATEGORIES.items():
        for name in own:
            if name not in classes:
                raise UnknownNameError(f"class of {DATA}", name, classes)
        found[category] = {classes.index(name): rows[name] for name in own}
    return found


def _named(dataset: Dataset, column: str) -> list[str]:
    # Gives a column's values as names, whether they are stored as numbers or not.
    names = getattr(dataset.features[column], "names", None)
    values = list(dataset[column])
    return [names[value] for value in values] if names else values
