"""`anonsynth doctor`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth doctor"
app = typer.Typer()


def command() -> None:
    """(being written)."""
