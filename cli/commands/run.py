"""`anonsynth run`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth run"
app = typer.Typer()


def command() -> None:
    """(being written)."""
