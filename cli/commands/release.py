"""`anonsynth release`: through the gate, signed, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anonsynth.cli.output import alarm, emit, progress, say, table
from anonsynth.cli.parsing import approvals

if TYPE_CHECKING:
    from anonsynth.release.build import Assessment

EXAMPLE = "Example: anonsynth release synthetic --audit audit --policy internal --key anonsynth.key --out release"


def command(
    synthetic: Path = typer.Argument(..., metavar="SYNTHETIC", help="The cohort that `anonsynth generate` wrote."),
    audit: list[Path] = typer.Option(..., "--audit", help="An audit of it; several: the worst answer counts."),
    policy: str = typer.Option(..., "--policy", help="Name or file of the policy."),
    key: Path = typer.Option(..., "--key", help="The private key that `anonsynth keys new` wrote."),
    out: Path = typer.Option(..., "--out", help="Folder of the release; it must not exist."),
    model: Path | None = typer.Option(None, "--model", help="The model that made it; left out: `model` beside it."),
    cohort: Path | None = typer.Option(
        None, "--cohort", help="The cohort it was trained on, whose ledger is asked where the policy limits ε."
    ),
    approve: list[str] = typer.Option([], "--approve", metavar="ROLE=NAME", help="Who approved; printed in it."),
    override: str | None = typer.Option(
        None,
        "--override-reason",
        metavar="TEXT",
        help="Release although the gate refuses; red on every page for ever.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Ask the gate and write nothing."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Ask the gate of a policy; if it opens, write and sign the release."""
    import os

    from anonsynth.policies.model import load_policy
    from anonsynth.release.build import ReleaseSettings, assess, refuse, write_release
    from anonsynth.release.keys import PASSPHRASE, read_key

    rules, signer = load_policy(policy), read_key(key, os.environ.get(PASSPHRASE))
    settings = ReleaseSettings(
        synthetic=synthetic,
        audits=tuple(audit),
        model=model or synthetic.absolute().parent / "model",
        out=out,
        cohort=cohort,
        override=override,
        approvals=approvals(approve),
    )
    with progress() as shown:
        assessed = assess(settings, rules, shown)
    _tell(assessed, json=json)
    refuse(assessed)
    if dry_run:
        say("Nothing was written (--dry-run).")
        return
    with progress() as shown:
        released = write_release(assessed, signer, shown)
    if assessed.override is None and override is not None:
        say("The gate is open, so that the override was not needed and is not recorded.")
    say(f"{'Was released before' if released.earlier else 'Released'}: {released.files} files in {out}")
    say(f"Next: anonsynth verify {out} --key {key.with_suffix('.pub')}")


def _tell(assessed: Assessment, *, json: bool) -> None:
    if json:
        emit(
            {
                "schema": "anonsynth/release-result/1",
                "verdict": assessed.verdict,
                "override": assessed.override,
                "checks": [check.model_dump(mode="json") for check in assessed.checks],
            }
        )
    else:
        rows = [(check.id, check.verdict, check.says) for check in assessed.checks]
        table(f"Gate of {assessed.policy.id}: {assessed.verdict}", ("question", "answer", ""), rows)
    if assessed.override is not None:
        alarm(f"RELEASED BY OVERRIDE although the gate refuses. Reason given: {assessed.override}")
