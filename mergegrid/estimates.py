"""What steps cost in operations and bytes, from shapes alone, before anything runs.

The model is built without memory, on PyTorch's meta device, and its passes over one
blank example are counted there. The same numbers are planned with and recorded, so that
a plan and its bill agree.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.experiment import Experiment
from mergegrid.models import get_family
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.statistics.fisher import fisher_flops
from mergegrid.statistics.gram import gram_flops
from mergegrid.statistics.norms import norms_flops
from mergegrid.statistics.trim import trim_flops
from mergegrid.steps import Step
from mergegrid.suites.examples import Batch

BYTES_PER_NUMBER = 4
"""Artifacts hold float32."""

JSON_BYTES = 100
"""An entry of a small JSON artifact: a parameter's name and a number."""


@dataclass(frozen=True)
class Estimate:
    """What one step is expected to take."""

    flops: int
    """Floating-point operations; a multiply-add counts as two."""

    paper_flops: float
    """The same by the Realistic Evaluation paper's Table 3; 0 without a formula."""

    bytes: int
    """Size of what it stores."""

    examples: int = 0
    """Examples that it sees, counting repetitions."""


class Estimates:
    """The shapes of an experiment's models, and what follows from them.

    Args:
        experiment: the experiment.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._suite = experiment.open_suite()
        family = get_family(self._suite.family)
        architecture = self._suite.architecture()
        with torch.device("meta"):
            model = family.create(architecture, self._suite.classes(), seed=0)
        self._pretrained = model.to("meta")
        self._all_bytes = _bytes(dict(model.named_parameters()))
        self._example = family.example(architecture)
        # A full step of pretraining trains everything, the rest the merged part alone.
        self._pretraining_flops = self._pass_flops(backward=True)
        family.freeze(self._pretrained)
        self._fine_tuning_flops = self._pass_flops(backward=True)
        self.forward_flops = self._pass_flops(backward=False)
        self.layout: Mapping[str, tuple[int, ...]] = {
            name: tuple(tensor.shape)
            for name, tensor in family.merged_parameters(self._pretrained).items()
        }
        self.linear = linear_weights(self._pretrained)

    def of(self, step: Step) -> Estimate:
        """Estimate one step.

        Args:
            step: any that leaves an artifact.

        Returns:
            What it is expected to take.

        Raises:
            ValueError: if it leaves none.
        """
        entries = sum(torch.Size(shape).numel() for shape in self.layout.values())
        settings = self._experiment.statistics
        training = self._experiment.training
        match step.name:
            case "data":
                stored = sum(self._suite.counts().values()) * _bytes(self._example)
                return Estimate(0, 0.0, stored)
            case "pretrain":
                seen = training.pretrain.steps * training.pretrain.batch_size
                flops = seen * self._pretraining_flops
                return Estimate(flops, 0.0, self._all_bytes, seen)
            case "train" | "multitask":
                how = training.expert if step.name == "train" else training.multitask
                seen = how.steps * how.batch_size
                flops = seen * self._fine_tuning_flops
                return Estimate(flops, 0.0, entries * BYTES_PER_NUMBER, seen)
            case "fisher":
                blank = self._blank(step.inputs["task"], settings.fisher.split)
                counted = fisher_flops(
                    self._pretrained,
                    blank,
                    variant=settings.fisher.variant,
                    limit=settings.fisher.examples,
                )
                seen = min(len(blank), settings.fisher.examples)
                return Estimate(*counted, entries * BYTES_PER_NUMBER, seen)
            case "gram":
                blank = self._blank(step.inputs["task"], settings.gram.split)
                counted = gram_flops(
                    self._pretrained, blank, limit=settings.gram.examples
                )
                seen = min(len(blank), settings.gram.examples)
                squares = sum(d_in**2 for _, d_in in self.linear.values())
                return Estimate(*counted, squares * BYTES_PER_NUMBER, seen)
            case "norms":
                return Estimate(*norms_flops(entries), len(self.layout) * JSON_BYTES)
            case "trim":
                counted = trim_flops(entries, float(step.inputs["density"]))
                return Estimate(*counted, len(self.layout) * JSON_BYTES)
            case _:
                raise ValueError(f"{step.name} leaves no artifact.")

    def _blank(self, task: str, split: str) -> "_Blank":
        return _Blank(self._meta_example, self._suite.counts()[f"{task}.{split}"])

    @functools.cached_property
    def _meta_example(self) -> Batch:
        return {name: tensor.to("meta") for name, tensor in self._example.items()}

    def _pass_flops(self, *, backward: bool) -> int:
        with FlopCounterMode(display=False) as counter:
            outputs = self._pretrained(self._meta_example)
            if backward:
                outputs.sum().backward()
        return counter.get_total_flops()


class _Blank:
    """As many blank examples as a split holds."""

    def __init__(self, example: Batch, count: int) -> None:
        self._example = example
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        del indices  # they are all the same
        return self._example


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
