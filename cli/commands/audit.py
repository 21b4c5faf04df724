"""`anonsynth audit`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth audit"
app = typer.Typer()


def command() -> None:
    """(being written)."""
