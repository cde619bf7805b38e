"""Masks of tasks: the compressed form of experts, one merged task vector and some bits.

Instead of a model for every task there are the pretrained model, one merged task vector
and for every task a mask of it, one bit for each entry. `Compressed` is that form of
TALL-masks, magnitude masking and EMR-merging; it restores what the method gives for a
task.

Parameters that are the same in all models are frozen: they, integers, and running
statistics of normalization layers are the pretrained model's, and have no masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from mergegrid.bits import (
    BITS,
    agreement_profile,
    pack,
    pruning_density,
    storage_bits,
    unpack,
)
from mergegrid.cohort import Cohort
from mergegrid.depth import layer_positions, scale_at
from mergegrid.errors import InputError, LayoutError, UnknownNameError
from mergegrid.methods.method import Recipe
from mergegrid.parameters import Parameters
from mergegrid.sources import InMemory
from mergegrid.splits import SPLITTERS, Split, Splitting, restored

__all__ = [
    "Compressed",
    "agreement_profile",
    "compress",
    "pack",
    "pruning_density",
    "storage_bits",
    "unpack",
]


@dataclass(frozen=True)
class Compressed:
    """Models for several tasks, as masks of one merged task vector."""

    recipe: Recipe
    """How they were made."""

    tasks: tuple[str, ...]
    """The experts' names, in order."""

    first_name: Mapping[str, str]
    """Every name of the model's tensors to the one under which its tensor is stored,
    another one for tensors that are tied."""

    task_vector: Mapping[str, Tensor]
    """The merged task vector, not yet scaled, float32, of all that is not frozen."""

    masks: Mapping[str, Mapping[str, Tensor]]
    """Task to parameter to packed mask."""

    rescalers: Mapping[str, Tensor]
    """[task], float32: EMR-merging's factors, under the parameter's name, or under ""
    if they are the same for the whole model. Empty for other methods."""

    @property
    def bits(self) -> int:
        """The bits that all its tensors take; the pretrained model is extra."""
        return sum(BITS * tensor.nbytes for tensor in self._tensors().values())

    def mask(self, task: str, name: str) -> Tensor:
        """Unpack a task's mask of a parameter.

        Args:
            task: an expert's name.
            name: a parameter in `task_vector`.

        Returns:
            [*shape], boolean.

        Raises:
            UnknownNameError: if there is no such task.
        """
        if task not in self.masks:
            raise UnknownNameError("task", task, self.tasks)
        return unpack(self.masks[task][name], self.task_vector[name].shape)

    def agreement(self) -> Float64[Tensor, " agreeing"]:
        """Compute the profile of agreement between the masks; frozen entries are out.

        Returns:
            See `agreement_profile`.
        """
        return agreement_profile(
            torch.stack([self.mask(task, name) for task in self.tasks])
            for name in self.task_vector
        )

    def reconstruct(self, task: str, pretrained: Parameters) -> Parameters:
        """Restore the model for a task.

        Args:
            task: an expert's name.
            pretrained: what the experts were fine-tuned from.

        Returns:
            New tensors, in the types of `pretrained` and where they are.

        Raises:
            LayoutError: if the pretrained model has other names or shapes.
            UnknownNameError: if there is no such task.
        """
        self._check(pretrained)
        if task not in self.masks:
            raise UnknownNameError("task", task, self.tasks)
        positions = layer_positions(self.first_name)
        options = self.recipe.options
        restored: dict[str, Tensor] = {}
        for name, first in sorted(self.first_name.items()):
            base = pretrained[name]
            if first != name:  # and so sorts before
                restored[name] = restored[first]
            elif name in self.task_vector:
                scale = scale_at(
                    name,
                    positions,
                    scale=options["scale"],
                    depth_scale=options["depth_scale"],
                    layer_scales=options["layer_scales"],
                )
                change = self._change(task, name).to(base.device)
                changed = torch.add(base.float(), change, alpha=scale)
                restored[name] = changed.to(base.dtype)
            else:
                restored[name] = base.detach().clone()
        return restored

    def _tensors(self) -> dict[str, Tensor]:
        # Task numbers for names, since a name may hold anything.
        named = {f"task_vector/{name}": t for name, t in self.task_vector.items()}
        named |= {f"rescalers/{name}": t for name, t in self.rescalers.items()}
        for number, task in enumerate(self.tasks):
            named |= {
                f"mask/{number}/{name}": t for name, t in self.masks[task].items()
            }
        return named

    def _change(self, task: str, name: str) -> Tensor:
        factors = self.rescalers.get("", self.rescalers.get(name))
        factor = 1.0 if factors is None else float(factors[self.tasks.index(task)])
        return restored(self.mask(task, name), self.task_vector[name], factor)

    def _check(self, pretrained: Parameters) -> None:
        for name in sorted(self.first_name.keys() ^ pretrained.keys()):
            has, lacks = (
                ("pretrained", "compressed")
                if name in pretrained
                else ("compressed", "pretrained")
            )
            raise LayoutError(f"The {has} model has {name!r}, the {lacks} has not.")
        for name, tensor in self.task_vector.items():
            if tensor.shape != pretrained[name].shape:
                raise LayoutError(
                    f"The pretrained model has {name!r} with shape "
                    f"{tuple(pretrained[name].shape)}, the compressed one with shape "
                    f"{tuple(tensor.shape)}."
                )


def compress(
    experts: Mapping[str, Parameters], recipe: Recipe, pretrained: Parameters
) -> Compressed:
    """Put experts into one merged task vector and a mask for each.

    Args:
        experts: parameters by expert, of one layout. Their names are the tasks'.
        recipe: TALL-masks, magnitude masking or EMR-merging, with its options.
        pretrained: what the experts were fine-tuned from.

    Returns:
        The compressed form; what it restores is what the method gives.

    Raises:
        InputError: if there is nothing to compress, the method gives no masks, or an
            option is one that masks cannot stand for.
        LayoutError: if the models do not fit one another.
        NonFiniteError: if there is NaN or infinity in a model.
    """
    _refuse_unsupported(recipe)
    if not experts:
        raise InputError("There is nothing to compress: give at least one expert.")
    cohort = Cohort(
        {name: InMemory(expert) for name, expert in experts.items()},
        InMemory(pretrained),
        {},
        seed=0,
        device=torch.device("cpu"),
    )
    stretches: dict[str, list[Split]] = {name: [] for name in cohort.parameters}
    splitting = Splitting(cohort, recipe)
    splitting.run(lambda name, split: stretches[name].append(split))
    changed = {
        name: of_name
        for name, of_name in stretches.items()
        if any(split.is_changed for split in of_name)
    }
    masks: dict[str, dict[str, Tensor]] = {task: {} for task in experts}
    for name, of_name in changed.items():
        selected = torch.cat([split.masks for split in of_name], dim=1)
        for task, mask in zip(experts, selected, strict=True):
            masks[task][name] = pack(mask)
    return Compressed(
        recipe,
        tuple(experts),
        cohort.layout.first_name,
        {
            name: torch.cat([split.numbers[0] for split in of_name]).view(
                cohort.layout.shapes[name]
            )
            for name, of_name in changed.items()
        },
        masks,
        _rescalers(changed, recipe),
    )


def _refuse_unsupported(recipe: Recipe) -> None:
    masking = [name for name, splitter in SPLITTERS.items() if splitter.is_shared]
    if recipe.method not in masking:
        raise InputError(
            f"{recipe.method} has no masks to compress experts by; there are "
            f"{', '.join(masking)}."
        )
    for option, value in (("selection", "random"), ("match_norm", True)):
        if recipe.options.get(option) == value:
            raise InputError(
                f"{recipe.method}: with {option} = {value!r} experts cannot be "
                f"compressed in memory; mergegrid compress does it in files."
            )


def _rescalers(
    changed: Mapping[str, Sequence[Split]], recipe: Recipe
) -> dict[str, Tensor]:
    found = {
        name: torch.stack(factors).amax(dim=0)
        for name, of_name in changed.items()
        if (factors := [s.factors for s in of_name if s.factors is not None])
    }
    if found and recipe.options["scope"] == "model":
        return {"": torch.stack([*found.values()]).amax(dim=0)}
    return found
