"""`anonsynth keys`: the keys that releases are signed with."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, say

EXAMPLE = "Example: anonsynth keys new --out keys"
app = typer.Typer(help="Make the keys that releases are signed with: new.", epilog=EXAMPLE, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make the keys that releases are signed with."""


@app.command(epilog=EXAMPLE)
def new(
    out: Path = typer.Option(..., "--out", help="Folder for anonsynth.key (private) and anonsynth.pub."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object on stdout."),
) -> None:
    """Make an Ed25519 key; a passphrase in ANONSYNTH_KEY_PASSPHRASE encrypts it."""
    import os

    from anonsynth.release.keys import PASSPHRASE, make_keys

    keys = make_keys(out, os.environ.get(PASSPHRASE))
    if json:
        emit(
            {
                "schema": "anonsynth/keys/1",
                "public_key": keys.text,
                "fingerprint": keys.fingerprint,
                "encrypted": keys.encrypted,
            }
        )
    else:
        typer.echo(f"{keys.text}SHA-256 fingerprint: {keys.fingerprint}")
    kept = "encrypted" if keys.encrypted else f"not encrypted; set {PASSPHRASE} before to have it so"
    say(f"{keys.private.name} is private and {kept}: whoever has it signs in your name. Keep a copy where it is safe.")
    say(f"Give {keys.public.name} to recipients in another way than the release, and read the fingerprint to them.")
    say(f"Next: anonsynth release SYNTHETIC --audit AUDIT --policy POLICY --key {keys.private} --out RELEASE")
