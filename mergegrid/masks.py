"""Masks of tasks: the compressed form of experts, one merged task vector and some bits.

Instead of a model for every task there are the pretrained model, one merged task vector
and for every task a mask of it, one bit for each entry. `Compressed` is that form of
TALL-masks, magnitude masking and EMR-merging; it restores what the method gives for a
task.

Parameters that are the same in all models are frozen: they, integers, and running
statistics of normalization layers are the pretrained model's, and have no masks.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergegrid.bits import (
    BITS,
    agreement_profile,
    pack,
    pruning_density,
    storage_bits,
    unpack,
)
from mergegrid.canonical import canonical_json
from mergegrid.depth import layer_positions, scale_at
from mergegrid.directories import new_directory
from mergegrid.errors import InputError, LayoutError, NonFiniteError, UnknownNameError
from mergegrid.layout import Layout, make_layout
from mergegrid.methods import emr, magnitude_masking, tall_masks
from mergegrid.methods.method import Recipe
from mergegrid.methods.per_expert import each
from mergegrid.parameters import Parameters
from mergegrid.sources import InMemory
from mergegrid.statistics.trim import keep_largest, trim_thresholds

__all__ = [
    "Compressed",
    "agreement_profile",
    "compress",
    "pack",
    "pruning_density",
    "storage_bits",
    "unpack",
]

TENSORS = "compressed.safetensors"
"""The file of the tensors of a compressed model."""

DESCRIPTION = "compressed.json"
"""The file that says what they are."""

MASKING = {
    module.METHOD.name: module.METHOD for module in (tall_masks, magnitude_masking, emr)
}
"""The methods whose models for tasks are masks of one task vector."""


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

    def save(self, directory: Path) -> None:
        """Write everything but the pretrained model.

        Args:
            directory: where to; made by this, all at once.
        """
        description = {
            "recipe": self.recipe.identity(),
            "tasks": self.tasks,
            "first_name": self.first_name,
        }
        with new_directory(directory) as made:
            tensors = {
                key: tensor.detach().cpu().contiguous()
                for key, tensor in self._tensors().items()
            }
            save_file(tensors, made / TENSORS)
            text = canonical_json(description)
            (made / DESCRIPTION).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Compressed":
        """Read what `save` wrote.

        Args:
            directory: where it is.

        Returns:
            The same, on the CPU.

        Raises:
            InputError: if it is not there, or damaged.
        """
        try:
            text = (directory / DESCRIPTION).read_text(encoding="utf-8")
            tensors = load_file(directory / TENSORS)
            return _described(json.loads(text), tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{directory} holds no compressed model that can be read: {error}."
            ) from None

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
        change = self.mask(task, name) * self.task_vector[name]
        if not self.rescalers:
            return change
        of_model = self.rescalers.get("")
        factors = self.rescalers[name] if of_model is None else of_model
        return change * factors[self.tasks.index(task)]

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
    _refuse_unsupported(experts, recipe)
    layout = _layout_of(experts, pretrained)
    changes = _task_vectors(experts, pretrained, layout)
    trimmed = _trimmed(changes, recipe)
    balance = _total(map(tall_masks.trimmed_balance, trimmed.values()))
    task_vector: dict[str, Tensor] = {}
    masks: dict[str, dict[str, Tensor]] = {task: {} for task in experts}
    changed = {name: change for name, change in changes.items() if change.any()}
    for name, change in changed.items():
        merged, selected = _select(recipe, change, trimmed.get(name), balance)
        task_vector[name] = merged.float().contiguous()
        for task, mask in zip(experts, selected, strict=True):
            masks[task][name] = pack(mask)
    factors = _rescalers(changed, recipe)
    return Compressed(
        recipe, tuple(experts), layout.first_name, task_vector, masks, factors
    )


def _refuse_unsupported(experts: Mapping[str, Parameters], recipe: Recipe) -> None:
    if recipe.method not in MASKING:
        raise InputError(
            f"{recipe.method} has no masks to compress experts by; there are "
            f"{', '.join(MASKING)}."
        )
    if not experts:
        raise InputError("There is nothing to compress: give at least one expert.")
    for option, value in (("selection", "random"), ("match_norm", True)):
        if recipe.options.get(option) == value:
            raise InputError(
                f"{recipe.method}: with {option} = {value!r} experts cannot be "
                f"compressed."
            )


def _layout_of(experts: Mapping[str, Parameters], pretrained: Parameters) -> Layout:
    models = {f"expert {name!r}": InMemory(model) for name, model in experts.items()}
    base = InMemory(pretrained)
    return make_layout(models | {"pretrained model": base}, base)


def _task_vectors(
    experts: Mapping[str, Parameters], pretrained: Parameters, layout: Layout
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in layout.parameters():
        rows = torch.stack([model[name].detach().float() for model in experts.values()])
        found[name] = rows.sub_(pretrained[name].detach().float())
        if not found[name].isfinite().all():
            raise NonFiniteError(f"A model has NaN or infinity in {name!r}.")
    return found


def _trimmed(changes: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Trim as the engine does: the one place that knows of thresholds."""
    options = recipe.options
    if not MASKING[recipe.method].takes_trimmed(options):
        return {}
    number = len(next(iter(changes.values()), ()))
    trims = [
        trim_thresholds(
            {name: rows[at] for name, rows in changes.items()},
            [density],
            fewest=int(options["selection"] == "at_least_one"),
        )[density]
        for at, density in enumerate(each("density", options["density"], number))
    ]
    trimmed: dict[str, Tensor] = {}
    for name, rows in changes.items():
        ties = torch.tensor([trim.ties_kept[name] for trim in trims])
        keeps_ties = options["selection"] == "threshold"
        trimmed[name] = keep_largest(rows, name, trims, None if keeps_ties else ties)
    return trimmed


def _select(
    recipe: Recipe, change: Tensor, trimmed: Tensor | None, balance: Tensor
) -> tuple[Tensor, Tensor]:
    """Merge one parameter's task vectors, and select every task's entries."""
    options = recipe.options
    match recipe.method:
        case "tall_masks":
            merged = tall_masks.multi_task_vector(
                change, trimmed, balance, merge_by=options["merge_by"]
            )
            selected = tall_masks.tall_mask(
                change,
                merged,
                mask_threshold=options["mask_threshold"],
                comparison=options["comparison"],
            )
        case "magnitude_masking":
            assert trimmed is not None, "its needs say so"
            merged = change.sum(dim=0)
            selected = magnitude_masking.magnitude_mask(trimmed)
        case _:
            merged = emr.unify(change)
            selected = emr.emr_mask(change, merged)
    return merged, selected


def _rescalers(changes: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    if recipe.method != "emr":
        return {}
    masses = {name: emr.masses(change) for name, change in changes.items()}
    if recipe.options["scope"] == "model" and masses:
        masses = {"": _total(masses.values())}
    return {name: emr.rescalers(mass).float() for name, mass in masses.items()}


def _total(parts: Iterable[Tensor]) -> Tensor:
    return sum(parts, start=torch.zeros((), dtype=torch.float64))


def _described(description: Mapping[str, Any], tensors: Parameters) -> Compressed:
    entries = description["recipe"]
    options = MASKING[entries["method"]].recipe(entries["options"]).options
    tasks = tuple(description["tasks"])
    task_vector = _under("task_vector/", tensors)
    masks = {
        task: _under(f"mask/{number}/", tensors) for number, task in enumerate(tasks)
    }
    for task, by_name in masks.items():
        for name, vector in task_vector.items():
            if by_name[name].shape != (-(-vector.numel() // BITS),):
                raise ValueError(f"the mask of {name!r} for {task!r} does not fit it")
    return Compressed(
        Recipe(entries["method"], entries["version"], options),
        tasks,
        description["first_name"],
        task_vector,
        masks,
        _under("rescalers/", tensors),
    )


def _under(prefix: str, tensors: Parameters) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }
