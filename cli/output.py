"""What every command says, and where: results on stdout, talk on stderr, one versioned object with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["alarm", "emit", "progress", "say", "table"]


def say(text: str) -> None:
    """Say something to the person at the terminal (stderr)."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def alarm(text: str) -> None:
    """Say something that nobody may miss (stderr, in red where the terminal has colours)."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False, style="bold red")


def emit(value: Mapping[str, Any]) -> None:
    """Print the one JSON object of a command that was asked for `--json` (stdout)."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table (stdout)."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(*map(str, row))
    Console(highlight=False).print(drawn)


@contextmanager
def progress() -> Iterator[Any]:
    """Yield an `anonsynth.progress.Progress` that draws a live bar on a terminal and plain lines elsewhere (stderr)."""
    from anonsynth.progress import Progress

    with Progress() as shown:
        yield shown
