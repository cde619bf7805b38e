"""Bits: masks as they are stored, what they take to store, and how they agree.

A mask says of every entry of a parameter whether a task selects it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float64, UInt8
from torch import Tensor

from mergegrid.errors import InputError, UnknownNameError

BITS = 8
"""Entries of a mask in a byte."""

Kind: TypeAlias = Literal[
    "single",
    "individual",
    "tall_masks",
    "magnitude_masking",
    "magnitude_pruning",
    "emr",
]
"""What is stored: one model, all experts, or the models for tasks of a method."""


def pack(mask: Bool[Tensor, "*shape"]) -> UInt8[Tensor, " byte"]:
    """Write a mask with one bit for each entry.

    Args:
        mask: of any shape.

    Returns:
        ceil(entries / 8) bytes. Entries in row-major order; the first of a byte is its
        lowest bit, and bits after the last entry are 0.
    """
    flat = mask.reshape(-1)
    padding = -len(flat) % BITS
    rows = torch.nn.functional.pad(flat, (0, padding)).view(-1, BITS)
    return (rows * _bit_values(mask.device)).sum(dim=1, dtype=torch.uint8)


def unpack(
    packed: UInt8[Tensor, " byte"], shape: Sequence[int]
) -> Bool[Tensor, "*shape"]:
    """Read a mask that `pack` wrote.

    Args:
        packed: the bytes.
        shape: the mask's shape.

    Returns:
        The mask.
    """
    rows = packed[:, None].bitwise_and(_bit_values(packed.device)) != 0
    return rows.view(-1)[: math.prod(shape)].reshape(tuple(shape))


def storage_bits(
    parameters: int, frozen: int, tasks: int, kind: Kind, kept: int | None = None
) -> int:
    """Count the bits that several tasks take to store, a number taking 32.

    With P parameters, F of them frozen, P' = P - F and T tasks:

    * single: 32 P, the pretrained or any merged model
    * individual: 32 (T P' + F)
    * tall_masks, magnitude_masking: (64 + T) P' + 32 F; the pretrained model, the
      merged task vector, and T masks
    * emr: 32 T more, for the factors
    * magnitude_pruning: 32 P, and 32 for every entry that is kept. The paper chooses
      the density so that they take as much as masks do (see `pruning_density`), and
      leaves out what it takes to say where they belong: this is a lower bound

    Args:
        parameters: P.
        frozen: F.
        tasks: T.
        kind: what is stored.
        kept: of magnitude pruning, the entries that are kept for all tasks together;
            None for as many as the paper keeps.

    Returns:
        The number of bits.

    Raises:
        InputError: if a number is negative, or more are frozen than there are.
        UnknownNameError: if there is no such kind.

    Source:
        Wang et al., "Localizing Task Information for Improved Model Merging and
        Compression", ICML 2024, App. C; for EMR-merging by analogy.
    """
    return sum(part_bits(parameters, frozen, tasks, kind, kept).values())


def part_bits(
    parameters: int, frozen: int, tasks: int, kind: Kind, kept: int | None = None
) -> dict[str, int]:
    """Count the bits of each part of what is stored; see `storage_bits`.

    Args:
        parameters: P.
        frozen: F.
        tasks: T.
        kind: what is stored.
        kept: see there.

    Returns:
        `model` of a single one, `experts` of individual ones; otherwise `pretrained`,
        `task_vector`, `masks`, `numbers` and `factors`, as far as the kind has them.

    Raises:
        InputError: if a number is negative, or more are frozen than there are.
        UnknownNameError: if there is no such kind.
    """
    if min(frozen, tasks) < 0 or frozen > parameters:
        raise InputError(
            f"There are no {parameters} parameters, {frozen} of them frozen, for "
            f"{tasks} tasks."
        )
    trained = parameters - frozen
    pretrained = {"pretrained": 32 * parameters}
    masked = pretrained | {"task_vector": 32 * trained, "masks": tasks * trained}
    own = (32 + tasks) * trained if kept is None else 32 * kept
    parts: dict[str, dict[str, int]] = {
        "single": {"model": 32 * parameters},
        "individual": {"experts": 32 * (tasks * trained + frozen)},
        "tall_masks": masked,
        "magnitude_masking": masked,
        "magnitude_pruning": pretrained | {"masks": 0, "numbers": own},
        "emr": masked | {"factors": 32 * tasks},
    }
    if kind not in parts:
        raise UnknownNameError("kind of storage", kind, parts)
    return parts[kind]


def pruning_density(tasks: int) -> float:
    """Tell how many entries magnitude pruning keeps to take as much as masks do.

    Args:
        tasks: T, at least 1.

    Returns:
        The density at which T pruned task vectors take as many bits as a merged one and
        T masks: 1 / T + 1 / 32, or all entries if that is more.
    """
    return min(1 / tasks + 1 / 32, 1.0)


def agreement_profile(
    masks: Iterable[Bool[Tensor, "task *shape"]],
) -> Float64[Tensor, " agreeing"]:
    """Tell by how many tasks entries are selected.

    Args:
        masks: of every parameter, for the same tasks in each.

    Returns:
        The fraction of entries that exactly 0, 1, ..., T tasks select: catastrophic
        ones, selfish ones, ..., universal ones. All zero if there are no entries.

    Raises:
        InputError: if there are no parameters.

    Source:
        Wang et al., "Localizing Task Information for Improved Model Merging and
        Compression", ICML 2024, eq. 7.
    """
    counts = [
        torch.bincount(mask.sum(dim=0).reshape(-1), minlength=len(mask) + 1)
        for mask in masks
    ]
    if not counts:
        raise InputError("There are no masks to compare.")
    total = torch.stack(counts).sum(dim=0).double()
    return total / total.sum().clamp(min=1)


def _bit_values(device: torch.device) -> UInt8[Tensor, " bit"]:
    return 2 ** torch.arange(BITS, dtype=torch.uint8, device=device)
