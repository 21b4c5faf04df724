"""`anonsynth train`: a conditional GAN from a cohort's training patients."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say

EXAMPLE = "Example: anonsynth train cohort --out model --steps 500"


def command(
    cohort: Path = typer.Argument(help="Folder that `anonsynth ingest` wrote."),
    out: Path = typer.Option(..., "--out", help="Folder of the model."),
    policy: str = typer.Option("internal", "--policy", help="A shipped policy or a YAML file."),
    steps: int = typer.Option(500, "--steps", min=1, help="Optimisation steps of label → MRI."),
    label_steps: int = typer.Option(
        400, "--label-steps", min=1, help="Optimisation steps of MRI → label, where anatomy has to be filled in."
    ),
    batch: int = typer.Option(2, "--batch", min=1, help="Scans in a step."),
    both: bool = typer.Option(False, "--both-directions", help="Train MRI → label on the cohort's own label maps too."),
    prior: str = typer.Option("auto", "--prior", help="Label prior: auto, atlas or shape."),
    seed: int = typer.Option(0, "--seed", min=0, help="The one seed."),
    device: str = typer.Option("auto", "--device", help="auto, cpu or cuda."),
    resume: bool = typer.Option(True, "--resume/--no-resume", help="Go on where an interrupted training stopped."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Train the generator on the training patients of a cohort. The holdout is never read."""
    from anonsynth.cohort.store import open_cohort
    from anonsynth.errors import UsageError
    from anonsynth.policies.model import load_policy
    from anonsynth.synthesis.model import open_model
    from anonsynth.synthesis.settings import PerformanceSettings, PriorChoice, TrainSettings
    from anonsynth.synthesis.train import train

    if prior not in set(PriorChoice):
        msg = f"there is no prior '{prior}'; choose {', '.join(PriorChoice)}"
        raise UsageError(msg)
    settings = TrainSettings(steps=steps, label_steps=label_steps, batch=batch, prior=PriorChoice(prior), seed=seed)
    performance = PerformanceSettings(device=device)
    with progress() as shown:
        train(
            open_cohort(cohort),
            settings,
            load_policy(policy),
            out,
            performance,
            shown,
            resume=resume,
            both_directions=both,
        )
    info = open_model(out)
    if json:
        emit(info.model_dump(mode="json", by_alias=True))
    say(f"Label prior: {info.source.prior.value} ({info.source.reason}).")
    say(f"Guarantee: {info.guarantee.value}. The model card is {out / 'model_card.md'}.")
    say(f"Next: anonsynth generate {out} --out SYNTHETIC -n 50")
