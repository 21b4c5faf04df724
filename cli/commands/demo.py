"""`anonsynth demo`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth demo"
app = typer.Typer()


def command() -> None:
    """(being written)."""
