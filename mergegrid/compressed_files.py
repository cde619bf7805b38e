"""Compressed files in the making: splits are coded as they come.

Every task's masks are in a file of their own, so that a task can be sent or deleted by
itself. Files can also be counted instead of written, which is how a grid knows what its
cells take.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch
from safetensors.torch import save_file
from torch import Tensor

from mergegrid.coded_file import CodedFile
from mergegrid.coding import BitsEncoder, NumbersEncoder
from mergegrid.compressed_form import (
    FACTORS,
    MASKS,
    NUMBERS,
    OF_MODEL,
    PLAIN,
    TASK_VECTOR,
)
from mergegrid.methods.options import Option
from mergegrid.splits import Split, Splitter


@dataclass
class Counts:
    """What has been coded."""

    trained: int = 0
    """Entries of parameters that any expert has changed: P'."""

    kept: int = 0
    """Numbers of tasks' own, of all tasks together."""


class CompressedFiles(AbstractContextManager["CompressedFiles"]):
    """The coded files of compressed experts, to be filled inside a `with`.

    Args:
        directory: where to; None to count what they would take, and write nothing.
        tasks: the tasks that are kept, by their place among the experts.
        parameters: what is merged, in the order in which it comes; each to how many
            entries it has.
        splitter: how the method's models are split.

    Raises:
        OSError: if they cannot be written.
    """

    def __init__(
        self,
        directory: Path | None,
        tasks: Mapping[str, int],
        parameters: Mapping[str, int],
        splitter: Splitter,
    ) -> None:
        self.splitter = splitter
        self.tasks = len(tasks)
        self.counts = Counts()
        self._directory = directory
        self._rows = [*tasks.values()]
        self._parameters = dict(parameters)
        self._changed: set[str] = set()
        self._factors: dict[str, Tensor] = {}
        self._plain_bytes = 0
        with ExitStack() as stack:

            def opened(*parts: str) -> CodedFile:
                path = None
                if directory is not None:
                    path = directory.joinpath(*parts)
                    path.parent.mkdir(exist_ok=True)
                return stack.enter_context(CodedFile(path))

            self._masks = [opened(MASKS, f"{task}.safetensors") for task in tasks]
            self._numbers = (
                [opened(TASK_VECTOR)]
                if splitter.is_shared
                else [opened(NUMBERS, f"{task}.safetensors") for task in tasks]
            )
            self._files = stack.pop_all()
        self._mask_coders = [BitsEncoder(file.write) for file in self._masks]
        self._number_coders = [NumbersEncoder(file.write) for file in self._numbers]

    def add(self, name: str, split: Split) -> None:
        """Code a stretch of a parameter.

        Args:
            name: the parameter; they come in order.
            split: its next stretch, flat, of all experts.

        Raises:
            OSError: if it cannot be written.
        """
        masks = split.masks[self._rows]
        for coder, mask in zip(self._mask_coders, masks, strict=True):
            coder.add(mask)
        if self.splitter.is_shared:
            # Nobody asks for what no mask selects, but for the sign of its zero.
            (coder,) = self._number_coders
            coder.add(split.numbers[0] * masks.any(dim=0))
        else:
            own = split.numbers[self._rows]
            for coder, numbers, mask in zip(
                self._number_coders, own, masks, strict=True
            ):
                coder.add(numbers[mask])
            self.counts.kept += int(masks.sum())
        if split.factors is not None:
            factors = split.factors[self._rows].cpu()
            known = self._factors.get(name)
            self._factors[name] = factors if known is None else known.maximum(factors)
        if split.is_changed:
            self._changed.add(name)

    def add_plain(
        self, tensors: Mapping[str, Tensor], options: Mapping[str, Option]
    ) -> None:
        """Write what is not coded: some tensors, and the factors.

        Args:
            tensors: by the names that they are given.
            options: the recipe's; factors are the same for all parameters unless its
                scope is the tensor.

        Raises:
            OSError: if it cannot be written.
        """
        plain = dict(tensors)
        if self._factors and options["scope"] == "tensor":
            plain |= {f"{FACTORS}{name}": own for name, own in self._factors.items()}
        elif self._factors:
            rows = [*self._factors.values()]
            # Of a task whose mask selects nothing in a parameter it is zero there.
            plain[OF_MODEL] = torch.stack(rows).amax(dim=0)
        self._plain_bytes = sum(tensor.nbytes for tensor in plain.values())
        if plain and self._directory is not None:
            save_file(plain, self._directory / PLAIN)

    def finish(self) -> None:
        """Code what is left; everything has been added.

        Raises:
            OSError: if it cannot be written.
        """
        for coder in (*self._mask_coders, *self._number_coders):
            coder.close()
        self.counts.trained = sum(self._parameters[name] for name in self._changed)

    def sizes(self) -> dict[str, int]:
        """Tell what the files take.

        Returns:
            Part, as `mergegrid.bits.part_bits` names it, to bytes.
        """
        masks = sum(file.size for file in self._masks)
        numbers = sum(file.size for file in self._numbers)
        found = {
            "masks": masks,
            "task_vector" if self.splitter.is_shared else NUMBERS: numbers,
        }
        return found | ({"factors": self._plain_bytes} if self._factors else {})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.__exit__(kind, error, traceback)
