"""The live display of a run: steps done, cells done, time left, what runs now."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.plan import Plan
from tasks.progress import News, listening

SECONDS_BETWEEN_LINES = 5.0
"""Without a terminal, progress is a line at most so often."""

MOST_SHOWN = 3
"""Running steps that are named beside the bar."""


class Display:
    """Counts what a plan still has to do, and draws it.

    Args:
        plan: what is missing.
        console: where to draw.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console = console
        references = {entry.step.key for entry in plan.references()}
        self._steps = set(plan.missing) | references
        self._cells = set(plan.unscored) - references
        self._done: set[str] = set()
        self._running: dict[str, tuple[str, float]] = {}
        self._last_line = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description:<5}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[now]}"),
            console=console,
            refresh_per_second=4,
        )
        self._bars = {
            name: self._progress.add_task(name, total=total, now="")
            for name, total in (
                ("steps", len(self._steps)),
                ("cells", len(self._cells)),
            )
            if total
        }

    @contextmanager
    def showing(self) -> Generator[None]:
        """Draw while the block runs; without a terminal, print a line now and then.

        Yields:
            Nothing.
        """
        if not self._console.is_terminal:
            self._progress.disable = True
        with self._progress, listening(self._hear):
            yield

    def _hear(self, news: News) -> None:
        if news.what == "started":
            self._running[news.key] = (news.label, 0.0)
        elif news.what == "advanced" and news.key in self._running:
            self._running[news.key] = (self._running[news.key][0], news.fraction)
        elif news.what in {"done", "failed"}:
            self._running.pop(news.key, None)
        if news.what == "done" and news.key not in self._done:
            self._done.add(news.key)
            for name, keys in (("steps", self._steps), ("cells", self._cells)):
                if news.key in keys and name in self._bars:
                    self._progress.advance(self._bars[name])
        self._draw()

    def _draw(self) -> None:
        shown = list(self._running.values())[:MOST_SHOWN]
        now = ", ".join(f"{label} {fraction:.0%}" for label, fraction in shown)
        if "steps" in self._bars:
            self._progress.update(self._bars["steps"], now=now)
        if self._console.is_terminal:
            return
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            counts = ", ".join(
                f"{task.description} {task.completed:.0f}/{task.total:.0f}"
                for task in self._progress.tasks
            )
            self._console.print(f"{counts}  {now}".rstrip(), highlight=False)
