"""What every step of an experiment needs at hand: its plan, its data, its stores.

Prefect tasks are handed an experiment as JSON text, a root and keys, never objects;
the workspace they name is opened once in a process.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mergegrid.estimates import Estimates
from mergegrid.experiment import Experiment
from mergegrid.experiment_steps import build_steps
from mergegrid.models import get_family
from mergegrid.models.family import Family
from mergegrid.parameters import Parameters
from mergegrid.steps import Steps
from mergegrid.suites.examples import Examples
from mergegrid.suites.suite import Data, Split, Suite
from storage.artifacts import ArtifactStore
from storage.ledger import Ledger
from storage.root import Root
from storage.tensors import load_tensors

PARAMETERS = "parameters.safetensors"
"""Payload of an expert: the parameters that are merged."""

STATISTIC = "statistic.safetensors"
"""Payload of a Fisher, Gram or gradient artifact: a tensor for each parameter."""

NORMS = "norms.json"
"""Payload of a norms artifact: the squared norm of each parameter."""

TRIM = "trim.json"
"""Payload of a trim artifact: the threshold, and the ties kept in each parameter."""

COEFFICIENTS = "coefficients.safetensors"
"""Payload of learned coefficients: for each parameter a number for each expert."""

LEARNED = "learned.json"
"""Payload of learned coefficients: whose they are, and how learning went."""

DISTRIBUTION = "distribution.json"
"""Payload of a distribution artifact: how each parameter's task vector is spread."""

PROFILE = "profile.json"
"""Payload of a profile artifact: how several task vectors agree."""


@dataclass(eq=False)
class Workspace:
    """An experiment at a root."""

    experiment: Experiment
    """The experiment."""

    steps: Steps
    """Its steps."""

    root: Root
    """Where artifacts and results live."""

    @functools.cached_property
    def suite(self) -> Suite:
        """The experiment's suite."""
        return self.experiment.open_suite()

    @functools.cached_property
    def family(self) -> Family:
        """The family that the suite's models belong to."""
        return get_family(self.suite.family)

    @functools.cached_property
    def estimates(self) -> Estimates:
        """What the experiment's steps are expected to take."""
        return Estimates(self.experiment, self.steps.artifacts.values())

    @functools.cached_property
    def store(self) -> ArtifactStore:
        """The artifacts under the root."""
        return ArtifactStore(self.root)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The results under the root."""
        return Ledger(self.root)

    @functools.cached_property
    def data(self) -> Data:
        """The suite's data, which have to be prepared before."""
        return self.suite.open(self.store.path(self.steps.data.key, keep=True))

    @functools.cached_property
    def metrics(self) -> Mapping[str, str]:
        """Each task's metric."""
        return {task.name: task.metric for task in self.steps.tasks}

    def examples(self, model: nn.Module, task: str, split: Split) -> Examples:
        """Give examples as a model takes them.

        Args:
            model: the model, or any other of the experiment's.
            task: the task's name.
            split: which split.

        Returns:
            The examples.
        """
        return self.family.encode(model, self.data.examples(task, split))

    def test_examples(self, model: nn.Module, task: str, split: Split) -> Examples:
        """Give examples that every cell is evaluated on, read once.

        Args:
            model: see `examples`.
            task: the task's name.
            split: validation or test.

        Returns:
            The examples.
        """
        if (task, split) not in self._read:
            self._read[task, split] = self.examples(model, task, split)
        return self._read[task, split]

    @functools.cached_property
    def _read(self) -> dict[tuple[str, Split], Examples]:
        return {}

    @functools.cached_property
    def device(self) -> torch.device:
        """Where models run and are merged: the accelerator, if there is one."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def model(self, parameters: Parameters | None = None) -> nn.Module:
        """Build the pretrained model, or one with other merged parameters.

        Args:
            parameters: what replaces the pretrained parameters, if anything.

        Returns:
            A model of its own, on `device`, with whatever is frozen.
        """
        model = self.family.load(self.store.path(self.steps.pretrained.key))
        if parameters is not None:
            self.family.set_parameters(model, parameters)
        return model.to(self.device)

    def parameters(self, key: str) -> Parameters:
        """Read the merged parameters of a stored model.

        Args:
            key: key of an expert, of the multitask or of the pretrained model.

        Returns:
            Its parameters by name.
        """
        if key == self.steps.pretrained.key:
            return self.family.merged_parameters(self.model())
        return load_tensors(self.store.path(key) / PARAMETERS)


@functools.lru_cache(maxsize=4)
def open_workspace(experiment: str, root: str) -> Workspace:
    """Open an experiment at a root, once in a process.

    Args:
        experiment: the experiment as JSON text.
        root: a directory or `s3://bucket/prefix`.

    Returns:
        The workspace.
    """
    read = Experiment.model_validate_json(experiment)
    # The grid is checked before a root is made for it.
    return Workspace(read, build_steps(read), Root.open(root))
