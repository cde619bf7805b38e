"""Progress: one line on a terminal that says how far a merge is."""

import time
from typing import TextIO

SECONDS_BETWEEN = 0.2
"""How often the line changes."""

CLEAR_LINE = "\r\x1b[K"
"""Takes away what stands on the terminal's last line."""


class ProgressLine:
    """A line that is written over and over, and taken away at the end.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = time.monotonic()
        self._shown = 0.0
        self._show("first passes over the models")

    def __call__(self, done: int, total: int) -> None:
        """Say how far it is.

        Args:
            done: how many entries are merged.
            total: of how many.
        """
        now = time.monotonic()
        if now - self._shown < SECONDS_BETWEEN:
            return
        if not self._shown:
            self._start = self._shown = now
            return
        self._shown = now
        fraction = done / total
        left = (now - self._start) * (1 - fraction) / fraction
        self._show(f"merged {100 * fraction:3.0f} %, {_clock(left)} left")

    def finish(self) -> None:
        """Take the line away."""
        self._show("")

    def _show(self, text: str) -> None:
        self._stream.write(f"{CLEAR_LINE}{text}")
        self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
