"""`anonsynth generate`: a substitute cohort from a model."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say
from anonsynth.cli.parsing import edit_plan

EXAMPLE = "Example: anonsynth generate model --out synthetic -n 50"


def command(
    model: Path = typer.Argument(help="Folder that `anonsynth train` wrote."),
    out: Path = typer.Option(..., "--out", help="Folder of the substitute cohort."),
    count: int = typer.Option(50, "-n", "--count", min=1, max=99_999, help="Substitute patients."),
    styles: int = typer.Option(1, "--styles", min=1, max=99, help="Scans of each: one label map, several styles."),
    seed: int = typer.Option(0, "--seed", min=0, help="The one seed."),
    scale: str | None = typer.Option(
        None, "--tumour-scale", help="Factors of the drawn tumours' volume, taken in turn: 0.5,2."
    ),
    move: str | None = typer.Option(
        None, "--tumour-move", help="Move them: right, anterior, superior in mm; random; or 'left frontal' and such."
    ),
    mirror: bool = typer.Option(False, "--tumour-mirror", help="Exchange them with their mirror place."),
    transplant: bool = typer.Option(False, "--transplant", help="Put them into another drawn brain."),
    remove: bool = typer.Option(False, "--remove", help="Take them out."),
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Write a substitute cohort with its label maps, as BIDS."""
    from anonsynth.release.substitute import generate
    from anonsynth.synthesis.settings import GenerateSettings

    plan = edit_plan(scale, move, remove=remove, mirror=mirror, transplant=transplant)
    settings = GenerateSettings(
        model=model, out=out, count=count, styles=styles, seed=seed, edits=None if plan.empty else plan
    )
    with progress() as shown:
        generate(settings, shown, device=device)
    if json:
        emit({"schema": "anonsynth/generate-result/1", "patients": count, "scans": count * styles, "seed": seed})
    say(f"{count} substitute patients are in {out}; it has not been audited and must not leave.")
    say(f"Next: anonsynth audit {out} --cohort COHORT --out AUDIT")
