"""`anonsynth policy`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth policy"
app = typer.Typer()


def command() -> None:
    """(being written)."""
