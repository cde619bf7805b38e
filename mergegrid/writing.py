"""Writing behind: stretches of merged tensors, while the next ones are merged."""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from torch import Tensor

STRETCHES_WAITING = 4
"""How many stretches may wait to be written."""


class Sink(Protocol):
    """Where a merged model is written."""

    def write(self, name: str, start: int, stretch: Tensor) -> None:
        """Write a stretch of a tensor.

        Args:
            name: the tensor's name.
            start: index of the first entry.
            stretch: flat entries, in the tensor's type.
        """
        ...


class Writer(AbstractContextManager["Writer"]):
    """Writes in a thread of its own, a tied tensor under each of its names.

    At the end of a `with`, everything is written; after an error, what waits is not.

    Args:
        names: the first name of each tensor to all of its names.
    """

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self._names = names
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def write(
        self, sinks: Sequence[Sink], name: str, start: int, stretch: Tensor
    ) -> None:
        """Have a stretch of a tensor written; wait if others wait.

        Args:
            sinks: where to.
            name: the tensor's first name.
            start: index of the first entry.
            stretch: flat entries; not to be changed any more.
        """
        while len(self._waiting) >= STRETCHES_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(
            self._pool.submit(self._write, sinks, name, start, stretch)
        )

    def _write(
        self, sinks: Sequence[Sink], name: str, start: int, stretch: Tensor
    ) -> None:
        for sink in sinks:
            for alias in self._names[name]:
                sink.write(alias, start, stretch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                while self._waiting:
                    self._waiting.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
