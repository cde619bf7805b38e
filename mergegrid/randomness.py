"""Random draws that depend on what they are for, never on when they are made."""

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from threading import RLock

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


_GLOBAL = RLock()
"""Who draws from PyTorch's global generators, which all threads share."""


class Stream:
    """A stream of random numbers for code that draws from PyTorch's global generators.

    Models are made, and their activations dropped, by draws from generators that belong
    to the whole process. Here each use has a state of its own, which is put in place
    while it draws, alone in the process; afterwards the generators are as before.

    Args:
        seed: decides the numbers.
    """

    def __init__(self, seed: int) -> None:
        self._seed: int | None = seed
        self._states: list[Tensor] = []

    @contextmanager
    def drawing(self) -> Generator[None]:
        """Draw from this stream in this block, going on where the last block ended.

        Yields:
            Nothing.
        """
        devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
        with _GLOBAL, torch.random.fork_rng(list(devices)):
            if self._seed is not None:
                torch.manual_seed(self._seed)
                self._seed = None
            else:
                torch.set_rng_state(self._states[0])
                for device, state in zip(devices, self._states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            yield
            self._states = [torch.get_rng_state()]
            self._states += [torch.cuda.get_rng_state(device) for device in devices]
