"""`anonsynth train`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth train"
app = typer.Typer()


def command() -> None:
    """(being written)."""
