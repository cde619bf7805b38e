"""A small classifier with experts, and examples of their tasks."""

import pytest
import torch
from torch import nn

from mergegrid.suites.examples import TensorExamples

TASKS = ("a", "b", "c")
CLASSES = 4


class Classifier(nn.Module):
    """Two layers; what is merged is all of it, in any precision."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, CLASSES)

    def forward(self, batch):
        inputs = batch["input"].to(self.first.weight.dtype)
        return self.second(self.first(inputs).tanh()).log_softmax(dim=-1)


class Setting:
    """A pretrained model, an expert per task and labelled examples."""

    def __init__(self, experts=TASKS, *, seed=0, dtype=torch.float32, size=40):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.dtype = dtype
        shapes = {n: p.shape for n, p in Classifier().named_parameters()}
        self.pretrained = {n: (draw(*s) / 2).to(dtype) for n, s in shapes.items()}
        self.experts = {
            task: {
                n: (self.pretrained[n] + draw(*s).to(dtype) / 4)
                for n, s in shapes.items()
            }
            for task in experts
        }
        self.examples = {
            task: TensorExamples(
                {
                    "input": draw(size, 6).to(dtype),
                    "label": self._labels(task, draw(size, 6)),
                }
            )
            for task in experts
        }
        # What an expert answers is right for its task.
        for task in experts:
            batch = self.examples[task][:]
            answers = self.model(self.experts[task])(batch).argmax(dim=-1)
            self.examples[task] = TensorExamples(
                {"input": batch["input"], "label": answers}
            )

    def _labels(self, _task, draws):
        return (draws[:, 0] > 0).long()

    def model(self, parameters=None):
        model = Classifier().to(self.dtype)
        model.load_state_dict(parameters or self.pretrained)
        return model


@pytest.fixture
def setting():
    return Setting()
