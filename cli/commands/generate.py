"""`anonsynth generate`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth generate"
app = typer.Typer()


def command() -> None:
    """(being written)."""
