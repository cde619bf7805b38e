"""Pieces: stretches of parameters, read from every source while others are merged.

A parameter is one piece where a method must see it whole, and otherwise several, so
that memory does not grow with the largest tensor. Pieces are read ahead by one thread,
as far as a budget of bytes allows.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from torch import Tensor

ENTRIES = 1 << 20
"""Entries of a piece, where a parameter is read in several."""


@dataclass(frozen=True)
class Span:
    """A stretch of a parameter."""

    name: str
    """The parameter."""

    start: int
    """Index of its first entry, in row-major order."""

    stop: int
    """Index after its last entry."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a parameter in every model, as it was read."""

    span: Span
    """Which stretch."""

    rows: dict[str, list[Tensor]]
    """Argument of methods (`experts`, `fisher`, ...) to flat tensors in their own
    types, one for each expert; `pretrained` and `signs` are a single one."""

    shape: tuple[int, ...]
    """The parameter's."""

    marks: dict[object, Tensor] = field(default_factory=dict["object", Tensor])
    """Of a parameter that is whole: which entries of its task vectors are left, by ways
    of marking them; filled in where it is asked for."""


def spans(names: Iterable[tuple[str, int, int]]) -> Iterator[Span]:
    """Cut parameters into spans.

    Args:
        names: each parameter, its number of entries, and how many of them, counted from
            the first, must stay together.

    Yields:
        The spans, in order.
    """
    for name, entries, unit in names:
        if entries <= ENTRIES:
            yield Span(name, 0, entries)
            continue
        step = rounded(ENTRIES, unit)
        for start in range(0, entries, step):
            yield Span(name, start, min(start + step, entries))


def rounded(entries: int, unit: int) -> int:
    """Round a number of entries to what must stay together.

    Args:
        entries: the number.
        unit: how many must stay together, at least one.

    Returns:
        A multiple of the unit, no larger unless the unit is.
    """
    return max(entries // unit, 1) * unit


def read_ahead(
    wanted: Iterable[Span],
    read: Callable[[Span], Piece],
    size: Callable[[Span], int],
    budget: int,
) -> Iterator[Piece]:
    """Read pieces in order, the next ones while one is worked on.

    Args:
        wanted: the spans, in order.
        read: reads one.
        size: says how many bytes one takes.
        budget: how many bytes may be read and not yet given up, the piece in use
            included; one piece is always read.

    Yields:
        The pieces.
    """
    waiting: deque[tuple[Future[Piece], int]] = deque()
    ahead = iter(wanted)
    held = 0
    following = next(ahead, None)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read") as reader:
        try:
            while waiting or following is not None:
                while following is not None and (
                    not waiting or held + size(following) <= budget
                ):
                    held += size(following)
                    task = reader.submit(read, following), size(following)
                    waiting.append(task)
                    following = next(ahead, None)
                future, taken = waiting.popleft()
                yield future.result()
                del future  # and with it the piece, before another one is read
                held -= taken
        finally:
            for future, _ in waiting:
                future.cancel()
