"""`anonsynth run`: the whole way, resumable."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.outcome import refuse, tell
from anonsynth.cli.output import progress, say
from anonsynth.cli.parsing import floats3, guarantee, ints3

EXAMPLE = "Example: anonsynth run scans/ --patients patients.tsv --policy internal --out substitute -n 50"


def command(
    sources: list[Path] = typer.Argument(
        ..., metavar="SOURCE", help="Folders of DICOM or NIfTI, BIDS, or a table of volumes."
    ),
    out: Path = typer.Option(..., "--out", help="Folder for everything that is written."),
    policy: str = typer.Option("internal", "--policy", help="Name of a shipped policy, or a YAML file."),
    patients: Path | None = typer.Option(None, "--patients", metavar="TSV", help="Table: which volume is whose."),
    labels: Path | None = typer.Option(None, "--labels", metavar="DIR", help="Folder of label maps."),
    shape: str | None = typer.Option(None, "--shape", metavar="X,Y,Z", help="Voxels of the one grid."),
    spacing: str | None = typer.Option(None, "--spacing", metavar="X,Y,Z", help="Voxel size of the one grid, mm."),
    modality: str | None = typer.Option(None, "--modality", help="Modality of images that do not say it, e.g. T1w."),
    group: str | None = typer.Option(None, "--group", help="Column over which the holdout is balanced, e.g. site."),
    prior: str = typer.Option("auto", "--prior", help="Label prior: auto, atlas, shape or private."),
    anatomy: Path | None = typer.Option(
        None, "--anatomy", metavar="DIR", help="Folder of public label maps to draw new ones from; costs no patient."
    ),
    anatomy_labels: Path | None = typer.Option(
        None, "--anatomy-labels", metavar="TSV", help="Table: which of their values show which label of the cohort."
    ),
    epsilon: float | None = typer.Option(
        None,
        "--epsilon",
        min=0.0,
        help="What the training may cost a patient (differential privacy); needs --shape and --spacing.",
    ),
    delta: float | None = typer.Option(None, "--delta", help="The policy's, or 1/(10·patients), if left out."),
    rung: int | None = typer.Option(
        None, "--rung", min=0, help="Of the ladder: 0 simulator, 1 statistics; 1 with --epsilon."
    ),
    public_patients: int | None = typer.Option(
        None, "--public-patients", min=1, help="A public figure for the training patients."
    ),
    modalities: str | None = typer.Option(
        None, "--modalities", "--public-modalities", help="Their names, if they are public: T1w,FLAIR."
    ),
    public_labels: str | None = typer.Option(
        None, "--public-labels", help="The labels' values, if they are public: 1,2."
    ),
    count: int = typer.Option(50, "-n", "--count", min=1, help="Scans to generate."),
    steps: int | None = typer.Option(None, "--steps", min=1, help="Training steps; left out: the trainer's default."),
    seed: int = typer.Option(0, "--seed", min=0, help="The one seed of all randomness."),
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Go the whole way: ingest, train, generate, audit. Stopped, it resumes; done, it says so."""
    from anonsynth.pipeline import RunSettings, run

    asked = guarantee(rung, epsilon, delta, public_patients, modalities, public_labels)
    settings = RunSettings(
        sources=tuple(sources),
        out=out,
        policy=policy,
        patients=patients,
        labels=labels,
        shape=ints3("--shape", shape),
        spacing=floats3("--spacing", spacing),
        modality=modality,
        group=group,
        prior=prior,
        guarantee=asked,
        anatomy=anatomy,
        anatomy_labels=anatomy_labels,
        count=count,
        steps=steps,
        seed=seed,
        device=device,
    )
    result = run(settings, progress, say)
    tell(result, json=json)
    if result.verdict != "pass":
        refuse(result)
