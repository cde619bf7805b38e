"""Inputs: everything that a merge reads, opened. Headers are read, tensors are not."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mergegrid.checkpoints import Checkpoint, find_checkpoint
from mergegrid.errors import InputError
from mergegrid.merge_file import MergeFile
from mergegrid.methods.needs import Need
from mergegrid.model_config import read_config
from mergegrid.safetensors_files import SafetensorsSource


@dataclass(frozen=True)
class Inputs:
    """The models and statistics of a merge."""

    file: MergeFile
    """What to merge, and how."""

    experts: Mapping[str, Checkpoint]
    """The experts by name."""

    pretrained: Checkpoint | None
    """What they were fine-tuned from."""

    statistics: Mapping[Need, Mapping[str, Checkpoint]]
    """What was measured on each."""

    sources: Mapping[str, SafetensorsSource]
    """Every one of them, opened, by how it was given."""

    configs: Mapping[str, dict[str, Any] | None]
    """The configuration of every model, by how it was given; None without one."""

    def models(self) -> dict[str, Checkpoint]:
        """Give the models.

        Returns:
            What to call each in a message, and the model.
        """
        found = {f"expert {name!r}": each for name, each in self.experts.items()}
        if self.pretrained is not None:
            found["pretrained model"] = self.pretrained
        return found

    def expert_sources(self) -> dict[str, SafetensorsSource]:
        """Give the experts to read from.

        Returns:
            Expert to parameters.
        """
        return {name: self.sources[found.text] for name, found in self.experts.items()}

    def reference_source(self) -> SafetensorsSource:
        """Give the reference to read from.

        Returns:
            Its parameters.
        """
        return self.sources[self.reference().text]

    def statistic_sources(self) -> dict[Need, dict[str, SafetensorsSource]]:
        """Give the statistics to read from.

        Returns:
            Need to expert to what was measured; needs without any are left out.
        """
        return {
            need: {owner: self.sources[found.text] for owner, found in given.items()}
            for need, given in self.statistics.items()
            if given
        }

    def reference(self) -> Checkpoint:
        """Tell which model the merged one is like.

        Returns:
            The pretrained model, or else the first expert.
        """
        return self.pretrained or next(iter(self.experts.values()))

    def checkpoints(self) -> list[Checkpoint]:
        """List all there are.

        Returns:
            Models and statistics.
        """
        statistics = [
            found
            for of_owners in self.statistics.values()
            for found in of_owners.values()
        ]
        return [*self.models().values(), *statistics]

    def local_files(self) -> list[Path]:
        """List what must not be lost while the merge runs.

        Returns:
            The files on a disk.
        """
        files = [file for found in self.checkpoints() for file in found.files]
        return [self.file.path, *(Path(file.path) for file in files if file.is_local)]

    def output_dtype(self) -> torch.dtype | None:
        """Tell what type the merged model's floating-point tensors get.

        Returns:
            The type; None for each as in the reference.
        """
        asked = self.file.output_dtype
        if asked != "widest":
            return asked
        types = {
            info.dtype
            for found in self.models().values()
            for info in self.sources[found.text].infos.values()
            if info.dtype.is_floating_point
        }
        widest: torch.dtype | None = None
        for dtype in sorted(types, key=str):
            widest = dtype if widest is None else torch.promote_types(widest, dtype)
        return widest


def open_inputs(file: MergeFile) -> Inputs:
    """Find everything that a merge reads, and read its headers.

    Args:
        file: what to merge, and how.

    Returns:
        The inputs.

    Raises:
        InputError: if something is not there, or damaged, or there is no such device.
    """
    if file.device == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here; leave out device, or say cpu.")

    def find(text: str) -> Checkpoint:
        return find_checkpoint(text, *file.relative_to)

    experts = {name: find(text) for name, text in file.experts.items()}
    pretrained = None if file.pretrained is None else find(file.pretrained)
    statistics = {
        need: {owner: find(text) for owner, text in of_owners.items()}
        for need, of_owners in file.statistics.items()
    }
    inputs = Inputs(file, experts, pretrained, statistics, {}, {})
    each = {found.text: found for found in inputs.checkpoints()}
    models = {found.text: found for found in inputs.models().values()}
    return replace(
        inputs,
        sources={text: found.open() for text, found in each.items()},
        configs={text: read_config(found) for text, found in models.items()},
    )
