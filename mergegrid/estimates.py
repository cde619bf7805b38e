"""What steps cost in operations and bytes, from shapes alone, before anything runs.

The model is built without memory, on PyTorch's meta device, and its passes over one
blank example are counted there. The same numbers are planned with and recorded, so that
a plan and its bill agree.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.experiment import Experiment, FisherSettings, GramSettings
from mergegrid.models import get_family
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.statistics.fisher import fisher_flops
from mergegrid.statistics.gram import gram_flops
from mergegrid.statistics.kfac import output_gradient_flops
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

    Everything is counted at once, by the thread that makes the estimates: PyTorch's
    counter and the recording of inputs change the model while they run.

    Args:
        experiment: the experiment.
        steps: its steps that leave an artifact.
    """

    of: Mapping[str, Estimate]
    """What each step is expected to take, by key."""

    layout: Mapping[str, tuple[int, ...]]
    """Shape of every parameter that is merged, by name."""

    linear: Mapping[str, tuple[int, int]]
    """Shape (d_out, d_in) of every weight that has a Gram matrix, by name."""

    forward_flops: int
    """Of a forward pass over one example."""

    def __init__(self, experiment: Experiment, steps: Iterable[Step]) -> None:
        self._experiment = experiment
        # What each kind of statistic takes for one example: all examples are alike.
        self._for_one: dict[str, tuple[int, float]] = {}
        self._suite = experiment.open_suite()
        family = get_family(self._suite.family)
        architecture = self._suite.architecture()
        with torch.device("meta"):
            model = family.create(architecture, seed=0)
        self._pretrained = model.to("meta")
        self._all_bytes = _bytes(dict(model.named_parameters()))
        self._example = family.example(architecture)
        # A full step of pretraining trains everything, the rest the merged part alone.
        self._pretraining = self._pass_flops(backward=True)
        family.freeze(self._pretrained)
        with family.adapting(self._pretrained, seed=0):
            self._fine_tuning = self._pass_flops(backward=True)
        self.forward_flops = self._pass_flops(backward=False).each
        self.layout = {
            name: tuple(tensor.shape)
            for name, tensor in family.merged_parameters(self._pretrained).items()
        }
        self.linear = linear_weights(self._pretrained)
        self.of = {step.key: self._estimate(step) for step in steps}

    def _estimate(self, step: Step) -> Estimate:
        entries = sum(torch.Size(shape).numel() for shape in self.layout.values())
        settings = self._experiment.statistics
        training = self._experiment.training
        match step.name:
            case "data":
                stored = sum(self._suite.counts().values()) * _bytes(self._example)
                fetched = sum(fetch.bytes for fetch in self._suite.fetches())
                return Estimate(0, 0.0, fetched or stored)
            case "import":
                is_expert = "pretrained" in step.inputs
                stored = entries * BYTES_PER_NUMBER if is_expert else self._all_bytes
                return Estimate(0, 0.0, stored)
            case "pretrain":
                how = training.pretrain
                assert how is not None, "the step is there because it is"
                flops = how.steps * self._pretraining.of(how.batch_size)
                seen = how.steps * how.batch_size
                return Estimate(flops, 0.0, self._all_bytes, seen)
            case "train" | "multitask":
                how = training.expert if step.name == "train" else training.multitask
                assert how is not None, "the step is there because it is"
                flops = how.steps * self._fine_tuning.of(how.batch_size)
                seen = how.steps * how.batch_size
                return Estimate(flops, 0.0, entries * BYTES_PER_NUMBER, seen)
            case "fisher":
                how = settings.fisher
                count = functools.partial(fisher_flops, variant=how.variant)
                return self._measured(step, how, count, entries)
            case "gram":
                squares = sum(d_in**2 for _, d_in in self.linear.values())
                return self._measured(step, settings.gram, gram_flops, squares)
            case "gradient":
                how = settings.gradient
                count = functools.partial(output_gradient_flops, variant=how.variant)
                squares = sum(d_out**2 for d_out, _ in self.linear.values())
                return self._measured(step, how, count, squares)
            case "norms":
                return Estimate(*norms_flops(entries), len(self.layout) * JSON_BYTES)
            case "trim":
                counted = trim_flops(entries, float(step.inputs["density"]))
                return Estimate(*counted, len(self.layout) * JSON_BYTES)
            case _:
                raise ValueError(f"{step.name} leaves no artifact.")

    def _measured(
        self,
        step: Step,
        how: FisherSettings | GramSettings,
        count: Callable[..., tuple[int, float]],
        numbers: int,
    ) -> Estimate:
        """Estimate a statistic that is measured on examples and holds some numbers."""
        if step.name not in self._for_one:
            blank = _Blank(self._meta_example, 1)
            self._for_one[step.name] = count(self._pretrained, blank, limit=1)
        exact, paper = self._for_one[step.name]
        there = self._suite.counts()[f"{step.inputs['task']}.{how.split}"]
        seen = min(there, how.examples)
        return Estimate(exact * seen, paper * seen, numbers * BYTES_PER_NUMBER, seen)

    @functools.cached_property
    def _meta_example(self) -> Batch:
        return {name: tensor.to("meta") for name, tensor in self._example.items()}

    def _pass_flops(self, *, backward: bool) -> "_PassFlops":
        one, two = (self._count(examples, backward=backward) for examples in (1, 2))
        # What is done once for a batch, such as embedding the prompts, is in both.
        return _PassFlops(each=two - one, once=one - (two - one))

    def _count(self, examples: int, *, backward: bool) -> int:
        batch = {
            name: torch.cat([tensor] * examples)
            for name, tensor in self._meta_example.items()
        }
        with FlopCounterMode(display=False) as counter:
            outputs = self._pretrained(batch)
            if backward:
                outputs.sum().backward()
        return counter.get_total_flops()


@dataclass(frozen=True)
class _PassFlops:
    """Operations of one pass over a batch."""

    each: int
    """For each example."""

    once: int
    """Whatever the number of examples."""

    def of(self, examples: int) -> int:
        return self.once + self.each * examples


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
