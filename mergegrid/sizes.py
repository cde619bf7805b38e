"""Sizes in bytes, as people write and read them."""

import re

from mergegrid.errors import InputError

UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
"""Units to bytes, whatever their case."""


def parse_size(text: str | int) -> int:
    """Read a size.

    Args:
        text: a number of bytes, or a number and a unit: `5GB`, `1.5 GiB`.

    Returns:
        Bytes.

    Raises:
        InputError: if it is no size, or none above zero.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    factor = UNITS.get(match[2].upper()) if match else None
    size = int(float(match[1]) * factor) if match and factor else 0
    if size <= 0:
        raise InputError(f"{text!r} is no size; write a number and KB, MB, GB or TB.")
    return size


def show_size(size: float) -> str:
    """Write a size.

    Args:
        size: bytes.

    Returns:
        The same in the unit that keeps it short, to three digits.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
