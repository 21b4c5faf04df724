"""`--patients TSV`: which volume is of which person, and of which site."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from anonsynth.cohort.layout_table import GROUP, PATIENT, column, read_rows
from anonsynth.cohort.nifti import stem
from anonsynth.cohort.sources import Refusal, SourceFindings, SourceScan
from anonsynth.errors import InputError, UsageError

__all__ = ["PatientsTable", "apply_patients", "read_patients"]

ISSUER = "\x1f"
"""Stands between a DICOM PatientID and its issuer in a patient's key."""
VOLUME = ("volume", "file", "filename", "image", "scan", "path", "case", "id")


@dataclass(frozen=True, slots=True)
class PatientsTable:
    """Who is who.

    Attributes:
        by_volume: Volume, without folder and extension → patient; empty if the table has no column of volumes.
        groups: Volume or patient → site or group.
    """

    by_volume: dict[str, str]
    groups: dict[str, str]


def read_patients(path: Path, group: str | None) -> PatientsTable:
    """Read a table with columns volume and patient, or patient alone, and perhaps a site or group.

    Args:
        path: CSV or TSV; private.
        group: The column of the site or group; by default `group`, `site` or `centre` if there is one.

    Raises:
        InputError: If the table has no patients, or gives one volume to two of them.
        UsageError: If there is no column `group`.
    """
    rows = read_rows(path)
    patient, volume = column(rows, PATIENT), column(rows, VOLUME)
    if patient is None:
        raise InputError(
            "the patients table has no column for the patient",
            remedy="name its columns volume and patient",
            private_path=path,
        )
    wanted = column(rows, (group.lower(),) if group else GROUP)
    if group and wanted is None:
        msg = "the patients table has no column of the name that --group gives"
        raise UsageError(msg)
    by_volume: dict[str, str] = {}
    groups: dict[str, str] = {}
    for row in rows:
        name = _key(row[volume]) if volume else row[patient]
        if volume and by_volume.setdefault(name, row[patient]) != row[patient]:
            raise InputError(
                "the patients table gives one volume to two patients",
                remedy="correct the table",
                private_path=path,
            )
        if wanted and row[wanted]:
            groups[name] = groups[row[patient]] = row[wanted]
    return PatientsTable(by_volume, groups)


def apply_patients(findings: SourceFindings, table: PatientsTable) -> SourceFindings:
    """Give every scan the patient and group that the table says.

    A scan that the table does not name is refused: its person is unknown, so it could fall on both sides of the split.
    """
    scans: list[SourceScan] = []
    refusals = list(findings.refusals)
    for scan in findings.scans:
        names = list(_names(scan))
        if not table.by_volume:
            group = next((table.groups[name] for name in names if name in table.groups), scan.group)
            scans.append(replace(scan, group=group))
            continue
        people = {table.by_volume[name] for name in names if name in table.by_volume}
        if len(people) == 1:
            patient = people.pop()
            group = next((table.groups[name] for name in [*names, patient] if name in table.groups), scan.group)
            session = "_".join(part for part in (scan.patient, scan.session) if part)
            scans.append(replace(scan, patient=patient, session=session, group=group))
        else:
            reason = "the patients table gives the scan to two patients" if people else "the patients table lacks it"
            remedy = "correct the table; without it the split could tear a patient apart"
            refusals += [Refusal(volume.path, reason, remedy) for _, volume in scan.modalities]
    return replace(findings, scans=tuple(scans), refusals=tuple(refusals))


def _names(scan: SourceScan) -> Iterable[str]:
    yield from (stem(volume.path) for _, volume in scan.modalities)
    patient = scan.patient.split(ISSUER)[0]
    yield from (f"{patient}_{scan.session}", scan.session, patient, f"sub-{patient}")
    yield from (volume.path.parent.name for _, volume in scan.modalities)


def _key(name: str) -> str:
    return stem(Path(name)) if name.lower().endswith((".nii", ".nii.gz")) else Path(name).name
