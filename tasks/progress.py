"""News of running steps, for whoever shows it, and the way to stop them.

Steps run in threads of the process that shows their progress, so a list of listeners
is all it takes; on a worker nobody listens, and Prefect's own states tell the story.
Telling news is also where a step notices that it should stop: often, and where nothing
is half done.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from storage.patience import end_waiting


@dataclass(frozen=True)
class News:
    """Something that happened to a step or a cell."""

    what: Literal["started", "advanced", "done", "failed"]
    """What happened."""

    key: str
    """The step's or cell's key."""

    label: str = ""
    """What it is about, for people; told when it starts."""

    fraction: float = 0.0
    """How much of the step is done, in [0, 1]."""


class StoppedError(BaseException):
    """The run was interrupted; a step raises this at the next piece of news."""


Listener = Callable[[News], None]
_listeners: list[Listener] = []
_lock = threading.Lock()
_stopping = threading.Event()


def tell(news: News) -> None:
    """Pass news on to every listener.

    Args:
        news: what happened.

    Raises:
        StoppedError: if the run was interrupted.
    """
    if _stopping.is_set():
        raise StoppedError
    with _lock:
        for listener in _listeners:
            listener(news)


def stop() -> None:
    """Make every step of this process end at its next piece of news.

    A step that waits for storage that is away has no news: it ends now.
    """
    _stopping.set()
    end_waiting()


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Hear all news while the block runs.

    Args:
        listener: called with each piece of news, one at a time.

    Yields:
        Nothing.
    """
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)
