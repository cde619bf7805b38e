"""Canonical JSON: one text, and so one digest, for every equal value.

Identities of steps, cells and experiments are digests of this text. Nothing is
pickled, so that an identity means the same on every machine and in every version.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

JSON: TypeAlias = Any
"""None, bool, int, float, str, or lists and string-keyed mappings of them."""


def canonical(value: JSON) -> JSON:
    """Rebuild `value` so that equal values have equal JSON text.

    Whole floats become integers (1.0 and 1 are the same option), tuples become lists.

    Args:
        value: anything made of None, booleans, numbers, strings, lists and mappings.

    Returns:
        The same value, ready for `json.dumps`.

    Raises:
        TypeError: for anything that JSON has no form for, such as a tensor.
        ValueError: for NaN and infinity.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} has no place in an identity.")
            return int(value) if value.is_integer() else value
        case Mapping():
            return {str(key): canonical(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [canonical(item) for item in value]
        case _:
            raise TypeError(
                f"{type(value).__name__} has no canonical JSON; give its key instead."
            )


def canonical_json(value: JSON) -> str:
    """Write `value` as canonical JSON text, on one line.

    Args:
        value: see `canonical`.

    Returns:
        The text.
    """
    return json.dumps(
        canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def digest(value: JSON, *, length: int = 16) -> str:
    """Shorten `value` to the first hexadecimal digits of its SHA-256.

    Args:
        value: see `canonical`.
        length: the number of digits; with 16 of them, a collision among a million
            values has a probability of 3e-8.

    Returns:
        The digits.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]
