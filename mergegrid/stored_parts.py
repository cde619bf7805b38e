"""What the models of several tasks take to store, part by part: said, and measured."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch

from mergegrid.bits import Kind, part_bits
from mergegrid.cohort import Cohort
from mergegrid.compressed_files import CompressedFiles
from mergegrid.measured import Statistics
from mergegrid.methods.method import Recipe
from mergegrid.parameters import Parameters
from mergegrid.sources import InMemory
from mergegrid.splits import Splitting


@dataclass(frozen=True)
class Part:
    """A part of what is stored."""

    part: str
    """As `mergegrid.bits.part_bits` names it."""

    bits: int
    """By the formulas of the TALL-masks paper, which take 32 for every number."""

    bytes: int
    """In files; masks and numbers are coded."""


class Numbers(NamedTuple):
    """A number of numbers, and what they take."""

    entries: int
    bytes: int

    def plus(self, other: "Numbers") -> "Numbers":
        """Add others.

        Args:
            other: none of them is among these.

        Returns:
            All of them.
        """
        return Numbers(self.entries + other.entries, self.bytes + other.bytes)

    def minus(self, other: "Numbers") -> "Numbers":
        """Leave some out.

        Args:
            other: all of them are among these.

        Returns:
            The rest.
        """
        return Numbers(self.entries - other.entries, self.bytes - other.bytes)


def numbers_of(parameters: Parameters) -> Numbers:
    """Count the numbers of a model, tied ones once.

    Args:
        parameters: its tensors by name.

    Returns:
        Those of floating-point type.
    """
    found = {
        (tensor.data_ptr(), tensor.shape): tensor
        for tensor in parameters.values()
        if tensor.is_floating_point()
    }
    return Numbers(
        sum(tensor.numel() for tensor in found.values()),
        sum(tensor.nbytes for tensor in found.values()),
    )


def entries_of(cohort: Cohort) -> dict[str, int]:
    """Count the entries of what is merged.

    Args:
        cohort: the experts.

    Returns:
        Parameter to entries, in order.
    """
    return {name: cohort.layout.entries(name) for name in cohort.parameters}


def compressed_parts(
    recipe: Recipe, files: CompressedFiles, pretrained: Numbers
) -> list[Part]:
    """Say what compressed experts take.

    Args:
        recipe: what they were compressed by.
        files: what has been written.
        pretrained: what the pretrained model has, and takes.

    Returns:
        The parts.
    """
    sizes = {"pretrained": pretrained.bytes, **files.sizes()}
    kind = cast("Kind", recipe.method)  # every method that is split is one
    bits = _bits(pretrained, files, kind)
    return [Part(part, bits[part], sizes[part]) for part in bits]


def experts_part(pretrained: Numbers, files: CompressedFiles, stored: int) -> Part:
    """Say what the experts themselves take.

    Args:
        pretrained: what the pretrained model has.
        files: what they were compressed to.
        stored: bytes of their files.

    Returns:
        The one part.
    """
    return Part("experts", _bits(pretrained, files, "individual")["experts"], stored)


def measure_parts(
    experts: Mapping[str, Parameters],
    recipe: Recipe,
    pretrained: Parameters,
    statistics: Statistics,
    *,
    subset: Collection[str],
    seed: int,
    device: torch.device,
    beside: Numbers,
) -> list[Part]:
    """Compress experts to no files, to tell what it takes.

    Args:
        experts: the experts by name.
        recipe: what they are compressed by.
        pretrained: what they were fine-tuned from.
        statistics: what was measured on them.
        subset: those that are compressed.
        seed: for methods that draw at random.
        device: where arithmetic happens.
        beside: what the pretrained model has that is not merged.

    Returns:
        The parts. The pretrained model is counted as the numbers that it has.

    Raises:
        InputError: if the method's models cannot be split.
    """
    sources = {name: InMemory(own) for name, own in experts.items() if name in subset}
    cohort = Cohort(sources, InMemory(pretrained), statistics, seed=seed, device=device)
    splitting = Splitting(cohort, recipe)
    tasks = {name: row for row, name in enumerate(sources)}
    entries = entries_of(cohort)
    with CompressedFiles(None, tasks, entries, splitting.splitter) as files:
        splitting.run(files.add)
        files.finish()
        files.add_plain({}, recipe.options)
    stored = numbers_of(pretrained).plus(beside)
    return compressed_parts(recipe, files, stored)


def _bits(pretrained: Numbers, files: CompressedFiles, kind: Kind) -> dict[str, int]:
    return part_bits(
        pretrained.entries,
        pretrained.entries - files.counts.trained,
        files.tasks,
        kind,
        None if files.splitter.is_shared else files.counts.kept,
    )
