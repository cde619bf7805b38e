"""Small numbers on axes: a power of ten is in the axis' name, and not at every tick."""

import math

_DIGITS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of(largest: float) -> int:
    """Choose the power of ten that numbers are written in.

    Args:
        largest: the largest magnitude of them.

    Returns:
        The largest multiple of three with which the number is at least 1; 0 for 0.
    """
    return 3 * math.floor(math.log10(largest) / 3) if largest > 0 else 0


def axis_name(name: str, power: int) -> str:
    """Name an axis whose numbers are multiples of a power of ten.

    Args:
        name: what they are.
        power: the exponent.

    Returns:
        Text such as "mean magnitude, 10⁻³".
    """
    return f"{name}, 10{str(power).translate(_DIGITS)}" if power else name
