"""`anonsynth verify`: is a release what was signed, and does its verdict follow."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import alarm, emit, say, table

EXAMPLE = "Example: anonsynth verify release --key anonsynth.pub"


def command(
    release: Path = typer.Argument(..., metavar="RELEASE", help="Folder of the release."),
    key: Path = typer.Option(
        ..., "--key", "--public-key", help="Public key of whoever released it; not from the release itself."
    ),
    rerun: bool = typer.Option(False, "--rerun", help="Repeat what needs no patient, and say what cannot be."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Check signature, every hash, schemas, and that the verdict follows from the published numbers and the policy."""
    from dataclasses import asdict

    from anonsynth.errors import VerdictError
    from anonsynth.release.keys import read_public
    from anonsynth.release.verify import RERUN, verify

    found = verify(release, read_public(key))
    said = found.predicate
    if json:
        told = {
            "schema": "anonsynth/verify-result/1",
            "authentic": found.authentic,
            "verdict": said.verdict if said and found.authentic else None,
            "override": said.override if said else None,
            "key": found.key,
            "files": found.files,
            "faults": [asdict(fault) for fault in found.faults],
        }
        emit(told | ({"rerun": {"repeated": [], "says": RERUN}} if rerun else {}))
    for fault in found.faults:
        alarm(fault.sentence)
    if said is not None and said.override is not None:
        alarm(f"RELEASED BY OVERRIDE: the gate refused this release. Reason given: {said.override}")
    if not found.authentic or said is None:
        first = found.faults[0]
        raise VerdictError(f"this is not the release that was signed: {first.sentence}; ask for it anew")
    if not json:
        rows = [(check.id, check.verdict, check.says) for check in said.checks]
        table(f"{said.policy.id}, version {said.policy.version}: {said.verdict}", ("question", "answer", ""), rows)
    say(f"Authentic: {found.files} files, signed on {said.released} with the key {found.key}.")
    say("Compare the key's fingerprint with the one that you were told by whoever released it.")
    if rerun:
        say(f"Rerun: {RERUN}.")
    if not found.passed:
        raise VerdictError(f"the release is authentic and its verdict is '{said.verdict}', not a pass")
