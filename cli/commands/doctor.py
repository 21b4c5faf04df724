"""`anonsynth doctor`: what this machine can do."""

from __future__ import annotations

import typer

from anonsynth.cli.output import emit, say, table

EXAMPLE = "Example: anonsynth doctor"


def command(
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Say what this machine can do and what is missing; nothing private is shown, so it can go into a bug report."""
    from pathlib import Path

    from anonsynth.doctor import State, examine
    from anonsynth.errors import InputError

    checks = examine(Path.cwd())
    missing = [check for check in checks if check.state is State.MISSING]
    if json:
        rows = [{"name": c.name, "state": c.state.value, "detail": c.detail, "remedy": c.remedy} for c in checks]
        emit({"schema": "anonsynth/doctor/1", "ready": not missing, "checks": rows})
    else:
        rows_shown = [(c.name, c.state.value, c.detail, c.remedy) for c in checks]
        table("This machine", ("what", "state", "detail", "remedy"), rows_shown)
    if missing:
        names = ", ".join(check.name for check in missing)
        raise InputError(f"this machine lacks {names}", remedy="the remedies above mend that")
    say("Everything needed is here. Next: anonsynth demo --out demo-out")
