"""What steps cost in operations and bytes, from shapes alone, before anything runs.

The model is built without memory, on PyTorch's meta device, and its passes over one
blank example are counted there. The same numbers are planned with and recorded, so that
a plan and its bill agree.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mergegrid.costs import learning_memory
from mergegrid.experiment import Experiment, FisherSettings, GramSettings
from mergegrid.methods import get_method
from mergegrid.models import get_family
from mergegrid.models.linear_inputs import linear_weights
from mergegrid.profiles.distribution import PER_MILLE, distribution_flops
from mergegrid.profiles.magnitudes import MERGINGS, TENTHS
from mergegrid.profiles.profile import profile_flops
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

NUMBER_BYTES = 25
"""A number among others in a JSON artifact."""


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

    labelled: int = 0
    """Different examples whose labels it uses."""

    unlabelled: int = 0
    """Different examples of which it uses the inputs alone."""

    paper_memory: float = 0.0
    """Peak memory in bytes by the SuperMerge paper's eq. 6; 0 without a formula."""


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
        self._all_numbers = sum(p.numel() for p in model.parameters())
        steps = list(steps)
        if any(step.name == "learn" for step in steps):
            self._learning_pass = self._pass_flops(backward=True)
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
                return Estimate(
                    flops,
                    0.0,
                    entries * BYTES_PER_NUMBER,
                    seen,
                    labelled=self._available(step.inputs["tasks"], "train"),
                    paper_memory=self._training_memory,
                )
            case "few_shot":
                how = training.few_shot
                assert how is not None, "the step is there because it is"
                seen = how.steps * how.batch_size
                return Estimate(
                    how.steps * self._fine_tuning.of(how.batch_size),
                    0.0,
                    entries * BYTES_PER_NUMBER,
                    seen,
                    labelled=how.examples * len(step.inputs["tasks"]),
                    paper_memory=self._training_memory,
                )
            case "learn":
                return self._learning(step)
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
            case "distribution":
                rows = len(self.layout) * len(PER_MILLE)
                return Estimate(distribution_flops(entries), 0.0, rows * NUMBER_BYTES)
            case "profile":
                return self._profile(step, entries)
            case _:
                raise ValueError(f"{step.name} leaves no artifact.")

    def learning_flops(
        self, *, updates: int, examples: int, looked_at: int, experts: int
    ) -> int:
        """Count the operations of learning coefficients.

        Args:
            updates: times that the model was merged and differentiated.
            examples: that gradients were taken of, counting repetitions.
            looked_at: that only went forward through the model.
            experts: their number M.

        Returns:
            Those of all passes, and for each update and entry M multiply-adds to merge
            and M to reduce the gradient.
        """
        entries = sum(torch.Size(shape).numel() for shape in self.layout.values())
        passes = (
            updates * self._learning_pass.once + examples * self._learning_pass.each
        )
        merging = updates * 4 * experts * entries
        return passes + looked_at * self.forward_flops + merging

    def _learning(self, step: Step) -> Estimate:
        recipe = step.inputs["recipe"]
        options = recipe["options"]
        learning = get_method(recipe["method"]).learning
        assert learning is not None, "the step is there because it is"
        tasks = step.inputs["tasks"]
        used = sum(
            min(options["examples"] or there, there)
            for there in self._available_each(tasks, options["split"])
        )
        experts = len(step.inputs["experts"])
        together = min(options.get("together", experts), experts)
        merges = math.ceil((experts - 1) / max(together - 1, 1)) or 1
        updates = options["steps"] * merges
        out = math.ceil(options.get("holdout", 0.0) * used)
        looks = (options["steps"] // options["evaluate_every"] + 1) * merges
        is_labelled = learning.data == "labelled"
        batch = options["batch_size"] * (1 if is_labelled else len(tasks))
        flops = self.learning_flops(
            updates=updates,
            examples=updates * min(batch, used),
            looked_at=looks * out,
            experts=together,
        )
        return Estimate(
            flops,
            0.0,
            len(self.layout) * experts * 2 * BYTES_PER_NUMBER,
            updates * min(batch, used),
            labelled=used if is_labelled else 0,
            unlabelled=0 if is_labelled else used,
            paper_memory=self.learning_memory(
                trained=len(self.layout) * experts, together=together
            ),
        )

    def learning_memory(self, *, trained: int, together: int) -> float:
        """Estimate peak memory of learning coefficients; see `learning_memory`.

        Args:
            trained: numbers that are learned.
            together: task vectors in memory at a time.

        Returns:
            Bytes, by the SuperMerge paper's eq. 6.
        """
        entries = sum(torch.Size(shape).numel() for shape in self.layout.values())
        return learning_memory(
            self._all_numbers,
            trained=trained,
            task_vectors=entries,
            together=together,
        )

    def merging_memory(self, experts: int) -> float:
        """Estimate peak memory of a merge that learns nothing; see `learning_memory`.

        Args:
            experts: their number M.

        Returns:
            Bytes, by the SuperMerge paper's eq. 6.
        """
        return self.learning_memory(trained=0, together=experts)

    @property
    def _training_memory(self) -> float:
        entries = sum(torch.Size(shape).numel() for shape in self.layout.values())
        return learning_memory(self._all_numbers, trained=entries)

    def _available(self, tasks: Iterable[str], split: str) -> int:
        return sum(self._available_each(tasks, split))

    def _available_each(self, tasks: Iterable[str], split: str) -> list[int]:
        counts = self._suite.counts()
        return [counts[f"{task.rpartition('@')[0]}.{split}"] for task in tasks]

    def _profile(self, step: Step, entries: int) -> Estimate:
        experts = len(step.inputs["experts"])
        densities = len(step.inputs["densities"])
        thresholds = len(step.inputs["mask_thresholds"])
        flops = profile_flops(
            entries, experts, step.inputs["densities"], mask_thresholds=thresholds
        )
        magnitudes = len(MERGINGS) * (experts + TENTHS)
        masks = (1 + densities) * thresholds * 2 * experts
        return Estimate(flops, 0.0, (densities * magnitudes + masks) * NUMBER_BYTES)

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
        with_labels = getattr(how, "variant", "") == "empirical"
        return Estimate(
            exact * seen,
            paper * seen,
            numbers * BYTES_PER_NUMBER,
            seen,
            labelled=seen if with_labels else 0,
            unlabelled=0 if with_labels else seen,
        )

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
