"""`anonsynth selftest`: seeded secrets through this site's own set-up."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say, table
from anonsynth.errors import ExitStatus

EXAMPLE = "Example: anonsynth selftest deidentify --policy research-exchange"
app = typer.Typer(help="Seeded secrets through this site's own set-up.", epilog=EXAMPLE, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep the name of the only test part of the command line."""


@app.command(epilog=EXAMPLE)
def deidentify(
    policy: str = typer.Option("internal", "--policy", help="The site's own policy: its name or YAML file."),
    seed: int = typer.Option(0, "--seed", help="Of the secrets."),
    out: Path = typer.Option(None, "--out", help="Folder to keep the seeded files and the result in."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Plant secrets wherever headers hide people, de-identify by the policy, and print what survived."""
    from tempfile import TemporaryDirectory

    from anonsynth.policies.model import load_policy
    from anonsynth.selftest.survivors import selftest_deidentify

    with TemporaryDirectory() as temporary, progress() as shown:
        outcome, _ = selftest_deidentify(out or Path(temporary), load_policy(policy), seed=seed, progress=shown)
    if json:
        emit(outcome.document())
    else:
        rows = [(kind, count, outcome.survived.get(kind, 0)) for kind, count in sorted(outcome.planted.items())]
        table("Secrets", ("where", "planted", "survived"), rows)
    planted, survived = sum(outcome.planted.values()), sum(outcome.survived.values())
    say(f"{planted} secrets planted, {survived} survived; {outcome.uids} old UIDs.")
    say(f"{outcome.written} of {outcome.files} files written, {outcome.missing} missing.")
    say(f"Images with other pixels: {outcome.pixels_changed}.")
    say(f"References that resolve: {outcome.references} of {outcome.references_planted}.")
    say(f"Technical attributes kept: {outcome.technical:.1%}.")
    if not outcome.clean:
        raise typer.Exit(int(ExitStatus.VERDICT))
