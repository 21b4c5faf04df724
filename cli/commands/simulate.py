"""`anonsynth simulate`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth simulate"
app = typer.Typer()


def command() -> None:
    """(being written)."""
