"""A CSV or TSV with columns patient, modality, path, label path; or with one column of paths per modality."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from anonsynth.cohort.layout_base import Claim, LayoutOptions, build_scans, label_words
from anonsynth.cohort.layout_names import modality_of
from anonsynth.cohort.sources import Refusal, SourceFindings, known_modality
from anonsynth.errors import InputError

__all__ = ["TABLE_WORDS", "column", "read_rows", "read_table"]

TABLE_WORDS = "a table of paths"
PATIENT = ("patient", "patient_id", "patientid", "subject", "subject_id", "participant_id", "participant")
SESSION = ("session", "session_id", "visit", "timepoint", "scan", "date")
GROUP = ("group", "site", "centre", "center", "scanner")
MODALITY = ("modality", "sequence", "contrast")
PATH = ("path", "image", "image_path", "file", "filename", "volume")
LABEL = ("label path", "label_path", "label", "mask", "mask_path", "seg", "segmentation")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table of comma, semicolon or tab separated text as rows of lower-case column → value, stripped.

    Raises:
        InputError: If it cannot be read as such.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = max("\t,;", key=first.count)
            rows = list(csv.DictReader(stream, delimiter=delimiter))
    except (OSError, ValueError, csv.Error):
        raise InputError("the table cannot be read as CSV or TSV in UTF-8", private_path=path) from None
    return [
        {key.strip().lower(): (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        for row in rows
    ]


def column(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> str | None:
    """Return the first of some names that is a column of the rows."""
    return next((name for name in names if rows and name in rows[0]), None)


def read_table(path: Path, options: LayoutOptions) -> SourceFindings:
    """Find the scans that a table names; paths are relative to the table's folder.

    Raises:
        InputError: If the table has no column for the patient or none with paths.
    """
    rows = read_rows(path)
    patient, session, label = column(rows, PATIENT), column(rows, SESSION), column(rows, LABEL)
    group = options.group.lower() if options.group else column(rows, GROUP)
    modality, image = column(rows, MODALITY), column(rows, PATH)
    wide = [name for name in rows[0] if known_modality(name)] if rows and image is None else []
    if patient is None or (image is None and not wide):
        remedy = "name its columns patient, modality, path, label path"
        raise InputError("the table lacks a column for the patient or for the path", remedy=remedy, private_path=path)
    claims: dict[tuple[str, str, str | None, Path], Claim] = {}
    refusals: list[Refusal] = []
    for row in rows:
        if not row[patient]:
            refusals.append(Refusal(path, "a row of the table names no patient", "fill the row in"))
            continue
        named = [(modality_of(row[modality] if modality else "", options.modality), row[image])] if image else []
        named += [(modality_of(name, None), row[name]) for name in wide]
        files: list[tuple[str | None, str]] = [*named, (None, row[label] if label else "")]
        for kind, name in files:
            if not name or name.lower() in ("n/a", "na"):
                continue
            claim = Claim(row[patient], row[session] if session else "", kind, path.parent / name, _group(row, group))
            claims[claim.patient, claim.session, kind, claim.path] = claim
    scans, doubled = build_scans(claims.values())
    words = label_words(claim.path for claim in claims.values() if claim.modality is None)
    return SourceFindings(TABLE_WORDS, scans, (*refusals, *doubled), {}, words)


def _group(row: Mapping[str, str], group: str | None) -> str:
    return (row.get(group) or "n/a") if group else "n/a"
