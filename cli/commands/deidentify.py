"""`anonsynth deidentify`: DICOM in, de-identified DICOM out."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say

EXAMPLE = "Example: anonsynth deidentify dicom/ clean/ --policy research-exchange"


def command(
    source: Path = typer.Argument(..., metavar="IN", help="Folder of DICOM files; private."),
    out: Path = typer.Argument(..., metavar="OUT", help="Folder for what may leave."),
    policy: str = typer.Option("internal", "--policy", help="A shipped policy or a YAML file."),
    private: Path = typer.Option(
        None, "--private", help="Folder for vault, quarantine list and journal; OUT-private if left out."
    ),
    key_file: Path = typer.Option(
        None, "--key-file", help="File whose bytes open the vault, instead of ANONSYNTH_VAULT_PASSPHRASE."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Remove from DICOM headers whatever no rule names, and search the result for everything that was removed."""
    from anonsynth.deidentify import NOT_COVERED, DeidentifySettings, deidentify
    from anonsynth.policies.model import load_policy

    with progress() as shown:
        done = deidentify(DeidentifySettings(source, out, private, key_file), load_policy(policy), shown)
    files, sweep = done.document["files"], done.document["sweep"]
    if json:
        emit(done.document)
    if done.resumed:
        say("This was done before; nothing was written again.")
    say(f"{files['written']} files of {done.document['patients']} patients written.")
    for reason, count in files["reasons"].items():
        say(f"Quarantined, {count} files: {reason}.")
    if files["quarantined"]:
        say(f"Which ones: {done.private / 'quarantine.tsv'}")
    looked = sum(sweep["searched"].values())
    say(f"{looked} values of the source were looked for in {sweep['files']} files; none was found.")
    if not done.vault:
        say(
            "No vault was kept, as no ANONSYNTH_VAULT_PASSPHRASE or --key-file was given: nobody can trace a pseudonym."
        )
    for sentence in NOT_COVERED:
        say(f"Not covered. {sentence}")
