"""Norms: the length of a model as a vector, for SLERP and MLERP."""

import math

from mergegrid.errors import NonFiniteError
from mergegrid.parameters import Parameters, Role, role

ENTRIES_AT_ONCE = 1 << 22
"""How many entries are held in float64 at a time (32 MiB)."""


def squared_norms(parameters: Parameters) -> dict[str, float]:
    """Sum the squares of every parameter, in float64.

    The squared norm of the whole model is their sum. Experts of one pretrained model
    differ by angles whose cosine is 1 - 1e-6 or closer, which sums in float32 over 1e8
    entries cannot resolve.

    Args:
        parameters: an expert. What is no parameter - integers, running statistics of
            normalization - is passed over; a tied tensor belongs under one name only.

    Returns:
        The squared L2 norm of each parameter, by name.

    Raises:
        NonFiniteError: if a parameter holds NaN or infinity.
    """
    norms: dict[str, float] = {}
    for name in sorted(parameters):
        if role(name, parameters[name].dtype) is not Role.MERGED:
            continue
        chunks = parameters[name].detach().flatten().split(ENTRIES_AT_ONCE)
        norms[name] = math.fsum(
            float(chunk.double().square().sum()) for chunk in chunks
        )
        if not math.isfinite(norms[name]):
            raise NonFiniteError(f"The parameter {name} holds NaN or infinity.")
    return norms


def norms_flops(entries: int) -> tuple[int, float]:
    """Count the operations of measuring one expert's norms.

    Args:
        entries: n, the number of entries of the model.

    Returns:
        The exact number, one multiply-add for each entry, and that of the Realistic
        Evaluation paper's appendix for one model, n + log n.
    """
    return 2 * entries, entries + math.log(max(entries, 1))
