"""`anonsynth ledger`: what was ever spent on a cohort's patients, and whether the record of it is whole."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, say, table

EXAMPLE = "Example: anonsynth ledger show COHORT"
app = typer.Typer(
    help="What was spent on a cohort's patients, over all models and runs: show, verify.",
    epilog=EXAMPLE,
    no_args_is_help=True,
)
NAMED = typer.Argument(..., metavar="COHORT|FILE", help="A cohort's folder, or its ledger.sqlite.")
JSON = typer.Option(False, "--json", help="Print one JSON object on stdout.")


@app.command(epilog=EXAMPLE)
def show(
    ledger: Path = NAMED,
    delta: float | None = typer.Option(None, "--delta", help="The δ to count at; by default 1/(10·patients)."),
    json: bool = JSON,
) -> None:
    """List every step that read patients, and what all of them cost together."""
    from anonsynth.privacy.declare import ledger_at
    from anonsynth.privacy.events import describe

    opened, _ = ledger_at(ledger)
    history = opened.read()
    statement = history.statement(delta)
    if json:
        emit({"schema": "anonsynth/ledger-show/1", **history.as_json(delta)})
        return
    rows = [
        (n, e.time, e.step.value, e.what, e.policy, "; ".join(map(describe, e.events)))
        for n, e in enumerate(history.entries, start=1)
    ]
    table("Ledger", ("entry", "time", "step", "what", "policy", "mechanism"), rows)
    typer.echo(f"All together: {statement}.")
    say(f"Next: anonsynth ledger verify {ledger}")


@app.command(epilog="Example: anonsynth ledger verify COHORT --head 5c1f0a7e")
def verify(
    ledger: Path = NAMED,
    head: str | None = typer.Option(
        None, "--head", metavar="HASH", help="A head that was noted earlier: it must be in the chain still."
    ),
    json: bool = JSON,
) -> None:
    """Compute the chain of hashes again and say what is broken, if anything is."""
    from dataclasses import asdict

    from anonsynth.errors import VerdictError
    from anonsynth.privacy.declare import ledger_at

    opened, cohort = ledger_at(ledger)
    checked = opened.check(cohort=cohort, noted=head)
    if json:
        emit({"schema": "anonsynth/ledger-verify/1", **asdict(checked)})
    if not checked.intact:
        raise VerdictError(checked.sentence)
    if not json:
        typer.echo(f"In order: {checked.sentence}.\nHead: {checked.head}")
    say("Entries cut off at the end leave a chain that looks whole: note the head, and give it with --head next time.")
