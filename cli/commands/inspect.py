"""`anonsynth inspect`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth inspect"
app = typer.Typer()


def command() -> None:
    """(being written)."""
