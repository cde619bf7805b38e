"""Random draws that depend on what they are for, never on when they are made."""

import hashlib

import numpy as np
import torch
from torch import Tensor

NUMBERS_PER_COUNT = 8
"""How many float32 numbers the generator makes from one count of its counter."""


def uniform(
    seed: int, expert: str, parameter: str, shape: tuple[int, ...], *, start: int = 0
) -> Tensor:
    """Draw numbers for one parameter of one expert.

    The generator's key is the SHA-256 of the three names, so draws do not depend on the
    order of experts or parameters, on sharding or on the device: they are always made
    on the CPU.

    Args:
        seed: tells independent repetitions apart.
        expert: the expert's name.
        parameter: the parameter's name.
        shape: the parameter's shape, or that of a stretch of it.
        start: index of the first entry, where the parameter is drawn in stretches; a
            multiple of `NUMBERS_PER_COUNT`.

    Returns:
        Independent draws from [0, 1), float32, on the CPU.
    """
    assert start % NUMBERS_PER_COUNT == 0, "the counter counts several numbers"
    # Lengths keep ("a", "bc") and ("ab", "c") apart.
    text = f"{seed}/{len(expert)}:{expert}/{len(parameter)}:{parameter}"
    digest = hashlib.sha256(text.encode()).digest()
    # PyTorch's CPU generator keeps 32 bits of a seed: too few for every parameter of
    # every expert to have draws of its own.
    bits = np.random.Philox(key=int.from_bytes(digest[:16]))
    bits.advance(start // NUMBERS_PER_COUNT)
    draws = np.random.Generator(bits).random(shape, dtype=np.float32)
    return torch.from_numpy(np.asarray(draws))
