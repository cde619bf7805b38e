"""A family in twenty lines and a suite of points on a plane: what a newcomer writes.

Run as a program, it is `python -m flows` with both of them registered.
"""

import os
import sys
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flows.__main__ import main
from mergegrid.models import FAMILIES
from mergegrid.models.family import Family
from mergegrid.suites import SUITES
from mergegrid.suites.examples import TensorExamples
from mergegrid.suites.suite import Suite, Task


class Line(nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.layer = nn.Linear(2, labels)

    def forward(self, batch):
        return self.layer(batch["point"]).log_softmax(dim=-1)


class Toy(Family):
    name = "toy"

    def create(self, architecture, *, seed):
        torch.manual_seed(seed)
        return Line(architecture["labels"])

    def example(self, _architecture):
        return {"point": torch.zeros(1, 2), "label": torch.zeros(1, dtype=torch.int64)}

    def freeze(self, model):
        model.requires_grad_(requires_grad=True)

    def save(self, model, directory):
        save_file(model.state_dict(), directory / "model.safetensors")

    def load(self, directory):
        parameters = load_file(directory / "model.safetensors")
        model = Line(len(parameters["layer.bias"]))
        model.load_state_dict(parameters)
        return model.eval()


FAMILY = Toy()


class Points(Suite):
    """Which of two half-planes is a point in; a task for each of three borders."""

    name: ClassVar = "points"
    version: ClassVar = 1
    family: ClassVar = "toy"

    def tasks(self):
        angles = {"east": True, "north": True, "between": False}
        return tuple(Task(n, 1, n, "", held_in) for n, held_in in angles.items())

    def architecture(self):
        return {"labels": 2}

    def counts(self):
        held_in = [task.name for task in self.tasks() if task.held_in]
        every = {f"{name}.{split}": 64 for name in held_in for split in SPLITS}
        return every | {"between.test": 64, "pretraining": 64}

    def prepare(self, directory, *, progress=None):
        for number, (part, count) in enumerate(self.counts().items()):
            generator = torch.Generator().manual_seed(number)
            points = torch.randn(count, 2, generator=generator)
            border = BORDERS[part.partition(".")[0]]
            label = (points @ torch.tensor(border) > 0).long()
            save_file({"point": points, "label": label}, directory / part)
            progress(number + 1, len(self.counts()))

    def open(self, directory):
        return PointsData(directory)


SPLITS = ("train", "validation", "test")
BORDERS = {
    "east": (1.0, 0.0),
    "north": (0.0, 1.0),
    "between": (1.0, 1.0),
    "pretraining": (1.0, 1.0),
}


class PointsData:
    def __init__(self, directory: Path):
        self.directory = directory

    def examples(self, task, split):
        return TensorExamples(load_file(self.directory / f"{task}.{split}"))

    def pretraining(self):
        examples = TensorExamples(load_file(self.directory / "pretraining"))
        return examples, examples


if __name__ == "__main__":
    FAMILIES._places["toy"] = "toy:FAMILY"
    SUITES._places["points"] = "toy:Points"
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as `python -m flows` does
