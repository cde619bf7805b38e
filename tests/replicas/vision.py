"""A replica of vision8/14/20 and their CLIP, see `python -m tests.replicas`."""

from pathlib import Path

import datasets
import numpy as np

from mergegrid.suites.vision import TASKS
from tests.replicas.clip import picture, save_model

TRAIN, TEST = 12, 4
"""Images of each task; most have more classes."""


def make(directory, seed=0, tasks=20):
    """Write saved data sets and the model; give the suite's options."""
    directory = Path(directory)
    for number, facts in enumerate(list(TASKS.values())[:tasks]):
        splits = {
            facts.data.train: _split(facts, TRAIN, [seed, number, 0]),
            facts.data.test: _split(facts, TEST, [seed, number, 1]),
        }
        folder = facts.source.folder(directory / "data")
        datasets.DatasetDict(splits).save_to_disk(str(folder))
    save_model(directory / "model", seed)
    return {
        "pretrained_at": str(directory / "model"),
        "saved": str(directory / "data"),
    }


def _split(facts, images, seed):
    generator = np.random.default_rng(seed)
    labels = [image % min(len(facts.names), 3) for image in range(images)]
    encoded = [picture(label, generator) for label in labels]
    kinds = {facts.data.label: datasets.Value("int64")}
    if facts.data.image == "img_bytes":
        kinds[facts.data.image] = datasets.Value("binary")
    else:
        kinds[facts.data.image] = datasets.Image()
        encoded = [{"bytes": one, "path": None} for one in encoded]
    return datasets.Dataset.from_dict(
        {facts.data.image: encoded, facts.data.label: labels}, datasets.Features(kinds)
    )
