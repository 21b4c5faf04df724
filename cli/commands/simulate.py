"""`anonsynth simulate`: patients who do not exist, as source data."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say

EXAMPLE = "Example: anonsynth simulate --out patients -n 24 --format nifti,dicom --seed 1"


def command(
    out: Path = typer.Option(..., "--out", help="Folder of the source data."),
    patients: int = typer.Option(24, "-n", "--patients", min=1, help="How many people to simulate."),
    seed: int = typer.Option(0, "--seed", min=0, help="The one seed of all randomness."),
    spacing: float = typer.Option(2.0, "--spacing", help="Voxel size in mm, 0.8 to 8."),
    formats: str = typer.Option("nifti", "--format", help="nifti, dicom or nifti,dicom."),
    head: bool = typer.Option(False, "--head/--no-head", help="With skull and scalp, or skull-stripped."),
    tumour: bool = typer.Option(True, "--tumour/--no-tumour", help="With a tumour in every patient, or healthy."),
    missing: float = typer.Option(0.0, "--missing", help="Fraction of modalities to leave out at random."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Simulate T1, post-contrast T1, T2 and FLAIR of patients with brain tumours, from a public template alone."""
    from anonsynth.anatomy.simulate import SimulateSettings, simulate

    settings = SimulateSettings(
        out=out,
        patients=patients,
        seed=seed,
        formats=tuple(formats.replace(" ", "").split(",")),
        spacing=spacing,
        head=head,
        tumour=tumour,
        missing=missing,
    )
    with progress() as shown:
        source = simulate(settings, shown)
    if json:
        emit({"schema": "anonsynth/simulate/1", "source": str(source), "patients": patients, "formats": formats})
    say(f"{patients} simulated patients are in {out}.")
    root = settings.roots()[settings.formats[0]]
    labels = f" --labels {root / 'labels'}" if source != root else ""
    say(f"Next: anonsynth ingest {source}{labels} --patients {root / 'patients.tsv'} --out COHORT")
