"""`anonsynth audit`: would anybody find a patient in the substitute cohort."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say
from anonsynth.errors import ExitStatus

EXAMPLE = "Example: anonsynth audit SYNTHETIC --cohort COHORT --out AUDIT --policy research-exchange"


def _explain(name: str | None) -> None:
    """Say what a finding means and leave; asked for, nothing else is needed."""
    if name is None:
        return
    from anonsynth.audits.explain import explain

    found = explain(name)
    for title, text in (("means", found.means), ("computed", found.computed), ("source", found.source)):
        typer.echo(f"{title}: {text}")
    raise typer.Exit


def command(
    synthetic: Path = typer.Argument(
        ..., metavar="SYNTHETIC", help="Folder of generated NIfTI (images/ and labels/, BIDS, or flat), by any tool."
    ),
    out: Path = typer.Option(..., "--out", help="Folder for audit.json and report.html; private, shows real scans."),
    cohort: Path | None = typer.Option(None, "--cohort", help="The cohort that `anonsynth ingest` wrote."),
    train: Path | None = typer.Option(None, "--train", help="Folder of the scans the generator was trained on."),
    holdout: Path | None = typer.Option(None, "--holdout", help="Folder of scans of patients it never saw."),
    model: Path | None = typer.Option(
        None, "--model", help="The model that made it, if its weights are to be released: they are attacked too."
    ),
    policy: str = typer.Option("internal", "--policy", help="Name or file of the policy whose thresholds hold."),
    seed: int = typer.Option(0, "--seed", help="Seed of the controls."),
    planted: int = typer.Option(
        6, "--planted", min=0, help="Copies of each weaker kind to plant; 0 plants exact ones only."
    ),
    explain: str | None = typer.Option(
        None,
        "--explain",
        metavar="ID",
        is_eager=True,
        callback=_explain,
        help="Say what a finding of audit.json means, how it is computed and what it rests on, and leave.",
    ),
    json: bool = typer.Option(False, "--json", help="Print audit.json's object on stdout."),
) -> None:
    """Look for copies of patients in a substitute cohort, attack it, and say what would have been seen."""
    del explain  # answered by its callback
    from anonsynth.audits.audit import AuditSettings, audit
    from anonsynth.audits.finding import Verdict, validated
    from anonsynth.audits.loading import curve_copies_for
    from anonsynth.policies.model import load_policy

    settings = AuditSettings(
        synthetic,
        out,
        cohort=cohort,
        train=train,
        holdout=holdout,
        seed=seed,
        weaker_copies=planted,
        curve_copies=curve_copies_for(planted),
        model=model,
    )
    with progress() as shown:
        result = audit(settings, load_policy(policy), shown)
    if json:
        emit(validated(result.document))
    if model is not None and cohort is not None:
        from anonsynth.cohort.store import open_cohort
        from anonsynth.synthesis.model import open_model
        from anonsynth.synthesis.pairing import pair

        say(pair(open_model(model), open_cohort(cohort)).sentence)
    if result.resumed:
        say("This audit was done before; nothing was computed again.")
    say(result.sentence)
    say(f"The report, for private eyes: {result.report}")
    if result.document.verdict is not Verdict.PASS:
        raise typer.Exit(int(ExitStatus.VERDICT))
    say(f"Next: look at the closest pairs in the report; the figures are in {out / 'audit.json'}")
