"""`anonsynth ingest`."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say

EXAMPLE = "Example: anonsynth ingest scans/ --patients patients.tsv --out cohort/"


def command(
    source: list[Path] = typer.Argument(help="DICOM folder, BIDS, folders of NIfTI, or a table of paths."),
    out: Path = typer.Option(..., help="Folder of the cohort; private."),
    labels: Path = typer.Option(None, help="Folder of label maps (NIfTI) that lie apart from the images."),
    patients: Path = typer.Option(None, help="Table with columns volume and patient."),
    policy: str = typer.Option("internal", help="A shipped policy or a YAML file."),
    shape: str = typer.Option(None, help="Grid in voxels, X,Y,Z, multiples of 4; inferred if left out."),
    spacing: str = typer.Option(None, help="Voxel size in mm, X,Y,Z; inferred if left out."),
    max_voxels: int = typer.Option(2**19, min=64, help="Largest grid that is inferred."),
    holdout: float = typer.Option(0.2, help="Share of the patients that is never trained on."),
    seed: int = typer.Option(0, help="Of pseudonyms and split."),
    layout: str = typer.Option("auto", help="auto, table, dicom, images-labels, bids, patient-folders or flat."),
    modality: str = typer.Option(None, help="Name of a single modality that the files do not name."),
    group: str = typer.Option(None, help="Column of the site or group over which the holdout is balanced."),
    force: bool = typer.Option(False, "--force", help="Discard the cohort in the folder and begin anew."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Prepare a cohort from scans: one grid, one split by patient, and a list of what cannot be used."""
    from anonsynth.cli.parsing import floats3, ints3
    from anonsynth.cohort.ingest import IngestSettings, ingest
    from anonsynth.policies.model import load_policy

    settings = IngestSettings(
        sources=tuple(source),
        out=out,
        labels=labels,
        patients=patients,
        layout=layout,
        shape=ints3("--shape", shape),
        spacing=floats3("--spacing", spacing),
        max_voxels=max_voxels,
        holdout=holdout,
        seed=seed,
        modality=modality,
        group=group,
        force=force,
    )
    with progress() as shown:
        info = ingest(settings, load_policy(policy), shown).info
    if json:
        emit({"schema": "anonsynth/ingest-result/1", "cohort": info.model_dump(mode="json", by_alias=True)})
    say(f"Layout: {info.layout}.")
    say(f"{info.scans} scans of {info.patients} patients; modalities {', '.join(info.modalities)}.")
    how = "given" if info.grid_given else "inferred"
    size, step = ("×".join(map(str, triple)) for triple in (info.grid.shape, info.grid.spacing))
    say(f"Grid ({how}): {size} voxels of {step} mm.")
    if info.merged_duplicates:
        say(f"{info.merged_duplicates} identifiers were somebody else's and are merged: {out / 'duplicates.tsv'}")
    if info.quarantined:
        say(f"{info.quarantined} files cannot be used; each with its reason in {out / 'quarantine.tsv'}")
    say(f"Next: anonsynth inspect {out}")
