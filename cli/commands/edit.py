"""`anonsynth edit`: a tumour of a label map grown, shrunk, moved, mirrored, transplanted or removed."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, say
from anonsynth.cli.parsing import edit_plan

EXAMPLE = "Example: anonsynth edit labels/sim-001.nii.gz --out edited.nii.gz --tumour-scale 2 --tumour-move 0,12,0"


def command(
    source: Path = typer.Argument(..., metavar="LABELMAP", help="Label map, NIfTI, with anatomy and tumour."),
    out: Path = typer.Option(..., "--out", help="The edited label map, .nii.gz; its sidecar is written beside it."),
    remove: bool = typer.Option(False, "--remove", help="Take the tumour out."),
    donors: list[Path] = typer.Option(
        [], "--transplant", metavar="LABELMAP", help="Put this map's tumour in; several times for several tumours."
    ),
    scale: str | None = typer.Option(None, "--tumour-scale", help="Factor of its volume, such as 0.5."),
    move: str | None = typer.Option(
        None, "--tumour-move", help="Right, anterior, superior in mm; random; or a place such as 'left frontal'."
    ),
    mirror: bool = typer.Option(False, "--tumour-mirror", help="Exchange it with its mirror place."),
    tumour: int = typer.Option(0, "--tumour", min=0, help="Which one, the largest is 1; 0 takes all as one."),
    across: bool = typer.Option(False, "--across-midline", help="It may lie on both sides of the falx."),
    into: bool = typer.Option(False, "--into-ventricle", help="It may lie in a ventricle."),
    push: float = typer.Option(0.25, "--push", min=0.0, max=0.42, help="How far it pushes, as a share of its radius."),
    labels: Path | None = typer.Option(None, "--labels", metavar="TSV", help="Table of what the values mean."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of random places."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Edit the tumour of a label map. What cannot be is refused, and nothing is written then."""
    from anonsynth.anatomy.edit_file import edit_file

    plan = edit_plan(scale, move, remove=remove, mirror=mirror)
    plan = plan.model_copy(update={"tumour": tumour, "across_midline": across, "into_ventricle": into, "push": push})
    records = edit_file(source, out, plan, donors, labels=labels, seed=seed)
    if json:
        emit({"schema": "anonsynth/edit/1", "Edits": records})
    for record in records:
        say(", ".join(f"{key} {value}" for key, value in record.items()))
    say("The edited label map is as private as the one it was made from.")
