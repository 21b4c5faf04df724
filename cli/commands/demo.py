"""`anonsynth demo`: the whole way on simulated patients."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.outcome import refuse, tell
from anonsynth.cli.output import progress, say

EXAMPLE = "Example: anonsynth demo --out demo-out"


def command(
    out: Path = typer.Option(Path("demo-out"), "--out", help="Folder for everything that is written."),
    seed: int = typer.Option(0, "--seed", min=0, help="The one seed of all randomness."),
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Simulate patients and go the whole way with them: ingest, train, generate, audit. No data is needed."""
    from anonsynth.pipeline import DemoSettings, demo

    result = demo(DemoSettings(out=out, seed=seed, device=device), progress, say)
    tell(result, json=json)
    if result.verdict == "fail":
        refuse(result)
    say("Next, with your own scans: anonsynth run SOURCE --policy internal --out DIR")
