"""Progress of long work: a live bar on a terminal, one plain line every few seconds elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

__all__ = ["Progress"]

Item = TypeVar("Item")
PLAIN_LINE_SECONDS = 10.0


class Progress:
    """Shows how far named tasks are. Messages hold no private strings: they are counts, losses and pseudonyms."""

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(stderr=True)
        self._quiet = quiet
        self._live = console.is_terminal and not quiet
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self._live,
        )
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def track(self, items: Iterable[Item], *, total: int, what: str, done: int = 0) -> Iterator[Item]:
        """Yield the items while showing how many of `total` are through; `done` were finished earlier."""
        task = self._bars.add_task(what, total=total, completed=done, note="")
        for count, item in enumerate(items, start=done + 1):
            yield item
            self._bars.update(task, completed=count)
            self._line(what, count, total, "")
        self._line(what, total, total, "", force=True)

    def step(self, what: str, count: int, total: int, note: str = "") -> None:
        """Show that task `what` is at `count` of `total`, with a note such as the losses."""
        tasks = {task.description: task.id for task in self._bars.tasks}
        task = tasks[what] if what in tasks else self._bars.add_task(what, total=total, note=note)
        self._bars.update(task, completed=count, total=total, note=note)
        self._line(what, count, total, note, force=count == total)

    def _line(self, what: str, count: int, total: int, note: str, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._live or self._quiet or (not force and now - self._last_line < PLAIN_LINE_SECONDS):
            return
        self._last_line = now
        sys.stderr.write(f"{what}: {count}/{total} {note}".rstrip() + "\n")
        sys.stderr.flush()
