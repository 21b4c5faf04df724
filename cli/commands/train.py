"""`anonsynth train`: a conditional GAN from a cohort's training patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anonsynth.cli.output import emit, progress, say
from anonsynth.cli.parsing import guarantee, public_maps

if TYPE_CHECKING:
    from anonsynth.anatomy.public_maps import PublicMaps
    from anonsynth.synthesis.settings import GuaranteeSettings

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
    prior: str = typer.Option("auto", "--prior", help="Label prior: auto, atlas, shape or private."),
    anatomy: Path | None = typer.Option(
        None, "--anatomy", metavar="DIR", help="Folder of public label maps to draw new ones from; costs no patient."
    ),
    anatomy_labels: Path | None = typer.Option(
        None, "--anatomy-labels", metavar="TSV", help="Table: which of their values show which label of the cohort."
    ),
    epsilon: float | None = typer.Option(
        None, "--epsilon", min=0.0, help="What the training may cost a patient (differential privacy)."
    ),
    delta: float | None = typer.Option(None, "--delta", help="The policy's, or 1/(10·patients), if left out."),
    rung: int | None = typer.Option(
        None, "--rung", min=0, help="0 simulator, 1 statistics, 2 selection, 3 adapter, 4 full; 1 with --epsilon."
    ),
    patients: int | None = typer.Option(
        None, "--patients", "--public-patients", min=1, help="A public figure for the training patients."
    ),
    modalities: str | None = typer.Option(None, "--modalities", help="Their names, if they are public: T1w,FLAIR."),
    labels: str | None = typer.Option(
        None, "--labels", "--public-labels", help="Their values, if they are public: 1,2."
    ),
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
    maps = public_maps(anatomy, anatomy_labels)
    asked = guarantee(rung, epsilon, delta, patients, modalities, labels)
    if asked is not None:
        _with_guarantee(cohort, out, policy, asked, prior, seed, device, maps, json=json)
        return
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
            maps=maps,
        )
    info = open_model(out)
    if json:
        emit(info.model_dump(mode="json", by_alias=True))
    say(f"Label prior: {info.source.prior.value} ({info.source.reason}).")
    say(f"Guarantee: {info.guarantee.value}. The model card is {out / 'model_card.md'}.")
    say(f"Next: anonsynth generate {out} --out SYNTHETIC -n 50")


def _with_guarantee(
    cohort: Path,
    out: Path,
    policy: str,
    asked: GuaranteeSettings,
    prior: str,
    seed: int,
    device: str,
    maps: PublicMaps | None,
    *,
    json: bool,
) -> None:
    from anonsynth.cohort.store import open_cohort
    from anonsynth.policies.model import load_policy
    from anonsynth.synthesis.model import open_model
    from anonsynth.synthesis.private_card import guarantee_paragraph
    from anonsynth.synthesis.private_train import Request
    from anonsynth.synthesis.rungs import open_rung
    from anonsynth.synthesis.settings import PerformanceSettings, PriorChoice, TrainSettings

    settings = TrainSettings(prior=PriorChoice(prior), seed=seed)
    performance = PerformanceSettings(device=device)
    strategy = open_rung(asked.rung)
    with progress() as shown:
        strategy.train(
            Request(open_cohort(cohort), settings, asked, load_policy(policy), out, performance, shown, maps)
        )
    info = open_model(out)
    if json:
        emit(info.model_dump(mode="json", by_alias=True))
    say(guarantee_paragraph(info).replace("**", ""))
    say(f"Next: anonsynth generate {out} --out SYNTHETIC -n 50")
