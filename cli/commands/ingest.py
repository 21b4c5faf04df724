"""`anonsynth ingest`."""

from __future__ import annotations

import typer

EXAMPLE = "Example: anonsynth ingest"
app = typer.Typer()


def command() -> None:
    """(being written)."""
