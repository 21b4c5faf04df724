"""`anonsynth inspect`."""

from __future__ import annotations

from pathlib import Path

import typer

from anonsynth.cli.output import emit, progress, say, table

EXAMPLE = "Example: anonsynth inspect cohort/"


def command(
    cohort: Path = typer.Argument(help="A folder that anonsynth ingest wrote."),
    out: Path = typer.Option(None, help="The contact sheet; by default contact_sheet.png in the cohort. Private."),
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Show what a cohort holds, as a table and a contact sheet of real scans, for private eyes."""
    from anonsynth.cohort.contact_sheet import draw_contact_sheet
    from anonsynth.cohort.inspect import inspect_rows, summarise
    from anonsynth.cohort.store import open_cohort

    opened = open_cohort(cohort)
    with progress() as shown:
        summary = summarise(opened, shown)
        sheet = draw_contact_sheet(opened, out or cohort / "contact_sheet.png", shown)
    if json:
        emit({"schema": "anonsynth/inspect-result/1", **summary.as_json(opened)})
    else:
        table(f"Cohort of {opened.info.patients} patients", ("what", "how much"), inspect_rows(opened, summary))
    say(f"Contact sheet: {sheet}. It shows real scans: for private eyes only.")
    say(f"Next: anonsynth train {cohort} --out model")
