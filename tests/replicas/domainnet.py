"""A replica of DomainNet and its CLIP, see `python -m tests.replicas`."""

from pathlib import Path

import datasets
import numpy as np

from mergegrid.suites.domainnet import CATEGORIES, DATA, DOMAINS, home
from tests.replicas.clip import picture, save_model

TRAIN, TEST = 8, 1
"""Images of each class in each domain; few classes have any at all, and to train on
only where their category is held in."""

CLASSES_WITH_IMAGES = 3
"""In each category."""


def make(directory, seed=0):
    """Write the saved data set and the model; give the suite's options."""
    directory = Path(directory)
    names = sorted({name for own in CATEGORIES.values() for name in own}, key=str.lower)
    shown = sorted(
        {name for own in CATEGORIES.values() for name in own[:CLASSES_WITH_IMAGES]}
        | {"nail"}
    )
    pairs = [(name, domain) for domain in DOMAINS for name in shown]
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=names),
            "domain": datasets.ClassLabel(names=list(DOMAINS)),
        }
    )
    splits = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(_rows(names, pairs, each, seed), features)
            for split, pairs, each in (
                ("train", [pair for pair in pairs if _is_home(*pair)], TRAIN),
                ("test", pairs, TEST),
            )
        }
    )
    splits.save_to_disk(str(DATA.folder(directory / "data")))
    save_model(directory / "model", seed)
    return {
        "pretrained_at": str(directory / "model"),
        "saved": str(directory / "data"),
    }


def _is_home(name, domain):
    return any(home(c) == domain for c, own in CATEGORIES.items() if name in own)


def _rows(names, pairs, each, seed):
    generator = np.random.default_rng([seed, each])
    rows = {"image": [], "label": [], "domain": []}
    for name, domain in pairs:
        for _ in range(each):
            label = names.index(name)
            rows["image"].append({"bytes": picture(label, generator), "path": None})
            rows["label"].append(label)
            rows["domain"].append(list(DOMAINS).index(domain))
    return rows
