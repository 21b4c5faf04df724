"""Real scans in, a prepared cohort out. Zone: private.

Every scan is looked at twice, one at a time: first for its size, labels and identity, then, when the grid and the
split are settled, to be written. Killed at any point, the same call resumes; finished, it returns at once.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from anonsynth._version import __version__
from anonsynth.cohort.grid_inference import check_grid, infer_grid
from anonsynth.cohort.identities import Identities, SameImage, find_same_images, settle_identities
from anonsynth.cohort.ingest_settings import IngestSettings, claim_folder, settings_hash
from anonsynth.cohort.label_folder import attach_labels
from anonsynth.cohort.layout_base import LayoutOptions
from anonsynth.cohort.layout_names import TUMOUR_WORDS, natural_key
from anonsynth.cohort.layouts import find_nifti, holds_nifti
from anonsynth.cohort.lookup import name_labels
from anonsynth.cohort.model import CohortInfo, GridInfo, ScanRecord
from anonsynth.cohort.patients_table import apply_patients, read_patients
from anonsynth.cohort.prepare import prepare_scan
from anonsynth.cohort.sources import Refusal, SourceFindings, SourceScan, modality_order
from anonsynth.cohort.split import check_fraction, pseudonyms, split_patients
from anonsynth.cohort.store import Cohort, open_cohort, save_cohort_tables
from anonsynth.cohort.survey import ScanSurvey, survey_scan
from anonsynth.errors import InputError
from anonsynth.files import finish_folder, is_finished, read_json, write_json, write_tsv
from anonsynth.policies.model import Duplicates, Policy
from anonsynth.progress import Progress

__all__ = ["IngestSettings", "find_source", "ingest"]


@dataclass(frozen=True, slots=True)
class _Usable:
    """A scan that goes into the cohort: what its source and the survey say, and the key of its person."""

    scan: SourceScan
    survey: ScanSurvey
    patient: str


def ingest(settings: IngestSettings, policy: Policy, progress: Progress) -> Cohort:
    """Prepare a cohort.

    Args:
        settings: What to ingest, and how.
        policy: Decides about duplicates and the least number of patients.
        progress: Where to show how far it is.

    Raises:
        InputError: If a source cannot be used at all, or too few patients are left.
        UsageError: If the settings contradict each other or the folder's.
    """
    check_fraction(settings.holdout)
    check_grid(settings.shape, settings.spacing)
    key = settings_hash(settings, policy)
    if is_finished(settings.out, "cohort.json") and not settings.force:
        cohort = open_cohort(settings.out)
        if cohort.info.settings_sha256 == key:
            return cohort
    claim_folder(settings, key)
    findings = find_source(settings, progress)
    surveys = _survey(findings, settings.out / "survey", progress)
    same = find_same_images(findings.scans, surveys)
    identities = settle_identities(findings.scans, surveys, same)
    usable, refusals = _usable(findings, surveys, identities, policy)
    _write_quarantine(settings, refusals)
    _write_duplicates(settings, findings, same)
    patients = {entry.patient for entry in usable}
    if len(patients) < policy.cohort.min_patients:
        reason = f"only {len(patients)} patients are usable and the policy needs {policy.cohort.min_patients}"
        raise InputError(reason, remedy="quarantine.tsv in the cohort's folder says what is wrong with the others")
    shape, spacing = infer_grid(
        [entry.survey.extent for entry in usable],
        shape=settings.shape,
        spacing=settings.spacing,
        max_voxels=settings.max_voxels,
    )
    grid = GridInfo(shape=shape, spacing=spacing)
    records = _prepare(usable, grid, findings, settings, progress)
    words = findings.label_words
    values = {value for entry in usable for value in entry.survey.values}
    info = CohortInfo(
        anonsynth=__version__,
        layout="; ".join([findings.layout, *findings.notes]),
        policy=policy.id,
        seed=settings.seed,
        holdout_fraction=settings.holdout,
        modalities=modality_order({name for record in records for name in record.modalities}),
        labels=name_labels(values, findings.labels, words, TUMOUR_WORDS),
        grid=grid,
        grid_given=settings.shape is not None and settings.spacing is not None,
        interpolation="linear",
        patients=len(patients),
        scans=len(records),
        quarantined=len(refusals),
        merged_duplicates=identities.merged if policy.cohort.duplicates is Duplicates.MERGE else 0,
        settings_sha256=key,
    )
    save_cohort_tables(settings.out, info, records)
    shutil.rmtree(settings.out / "survey", ignore_errors=True)
    finish_folder(settings.out)
    return open_cohort(settings.out)


def find_source(settings: IngestSettings, progress: Progress) -> SourceFindings:
    """Find the scans of all sources; the same patient key in two sources is the same person.

    Raises:
        InputError: If a source does not exist or its layout is not known.
    """
    found = [_find_one(source, settings, progress) for source in settings.sources]
    several = len(found) > 1
    scans = [
        replace(scan, session=f"{number}_{scan.session}") if several else scan
        for number, findings in enumerate(found)
        for scan in findings.scans
    ]
    scans.sort(key=lambda scan: (natural_key(scan.patient), natural_key(scan.session), scan.patient, scan.session))
    findings = SourceFindings(
        layout="; ".join(dict.fromkeys(findings.layout for findings in found)),
        scans=tuple(scans),
        refusals=tuple(refusal for findings in found for refusal in findings.refusals),
        labels={value: entry for findings in found for value, entry in findings.labels.items()},
        label_words=frozenset().union(*(findings.label_words for findings in found)),
        notes=tuple(dict.fromkeys(note for findings in found for note in findings.notes)),
    )
    return findings if settings.labels is None else attach_labels(findings, settings.labels)


def _find_one(source: Path, settings: IngestSettings, progress: Progress) -> SourceFindings:
    options = LayoutOptions(settings.modality, settings.group)
    if not source.exists():
        raise InputError("the source does not exist", remedy="check its path", private_path=source)
    if settings.layout == "dicom" or (settings.layout == "auto" and not holds_nifti(source)):
        return _find_dicom(source, settings, progress)
    return find_nifti(source, patients=settings.patients, layout=settings.layout, options=options)


def _find_dicom(source: Path, settings: IngestSettings, progress: Progress) -> SourceFindings:
    from anonsynth.cohort.dicom import find_dicom

    findings = find_dicom([source], progress)
    if settings.patients is not None:
        findings = apply_patients(findings, read_patients(settings.patients, settings.group))
    return findings


def _survey(findings: SourceFindings, folder: Path, progress: Progress) -> list[ScanSurvey]:
    surveys = []
    for scan in progress.track(findings.scans, total=len(findings.scans), what="looking at scans"):
        kept = folder / f"{_scan_hash(scan)}.json"
        try:
            survey = ScanSurvey.model_validate(read_json(kept))
        except (InputError, ValidationError):
            survey = survey_scan(scan, findings.labels.keys())
            write_json(kept, survey.model_dump(mode="json"))
        surveys.append(survey)
    return surveys


def _usable(
    findings: SourceFindings, surveys: Sequence[ScanSurvey], identities: Identities, policy: Policy
) -> tuple[list[_Usable], list[Refusal]]:
    refusals = [*findings.refusals, *(refusal for survey in surveys for refusal in survey.refused())]
    refuse = policy.cohort.duplicates is Duplicates.REFUSE
    usable = []
    for number, (scan, survey) in enumerate(zip(findings.scans, surveys, strict=True)):
        if not survey.volumes:
            continue
        if refuse and number in identities.shared:
            reason, remedy = "the same image is found under two identifiers", "find out whose it is"
            refusals += [Refusal(source.path, reason, remedy) for _, source in scan.modalities]
        elif number not in identities.dropped:
            usable.append(_Usable(scan, survey, identities.patient[number]))
    return usable, refusals


def _prepare(
    usable: Sequence[_Usable],
    grid: GridInfo,
    findings: SourceFindings,
    settings: IngestSettings,
    progress: Progress,
) -> list[ScanRecord]:
    names = pseudonyms([*{entry.patient for entry in usable}], settings.seed)
    groups = _groups(usable)
    splits = split_patients(groups, settings.holdout, settings.seed)
    count: dict[str, int] = {}
    records = []
    for entry in progress.track(usable, total=len(usable), what="preparing scans"):
        patient = names[entry.patient]
        count[patient] = count.get(patient, 0) + 1
        folder = settings.out / "scans" / f"{patient}-S{count[patient]:02d}"
        done = folder / "scan.json"
        try:
            record = ScanRecord.model_validate(read_json(done))
        except (InputError, ValidationError):
            record = prepare_scan(
                entry.scan,
                entry.survey,
                grid,
                known=findings.labels.keys(),
                folder=folder,
                patient=patient,
                split=splits[entry.patient],
                group=groups[entry.patient],
            )
            write_json(done, record.model_dump(mode="json"))
        records.append(record)
    return sorted(records, key=lambda record: record.scan)


def _groups(usable: Sequence[_Usable]) -> Mapping[str, str]:
    """Return each patient's site or group; of a patient of two sites the first by name."""
    found: dict[str, str] = {}
    for entry in usable:
        known = [group for group in (found.get(entry.patient), entry.scan.group) if group not in (None, "n/a")]
        found[entry.patient] = min((group for group in known if group), default="n/a")
    return found


def _write_quarantine(settings: IngestSettings, refusals: Sequence[Refusal]) -> None:
    rows = [{"file": _relative(r.path, settings), "reason": r.reason, "remedy": r.remedy} for r in refusals]
    rows.sort(key=lambda row: row["file"])
    write_tsv(settings.out / "quarantine.tsv", ("file", "reason", "remedy"), rows)


def _write_duplicates(settings: IngestSettings, findings: SourceFindings, same: Sequence[SameImage]) -> None:
    rows = []
    for pair in same:
        paths = [findings.scans[n].modalities for n in (pair.first, pair.second)]
        rows.append(
            {
                "file": _relative(paths[0][0][1].path, settings),
                "same_as": _relative(paths[1][0][1].path, settings),
                "kind": "equal" if pair.exact else "alike",
                "similarity": f"{pair.similarity:.4f}",
            }
        )
    write_tsv(settings.out / "duplicates.tsv", ("file", "same_as", "kind", "similarity"), rows)


def _relative(path: Path, settings: IngestSettings) -> str:
    for root in (*settings.sources, settings.labels):
        if root is not None and path != root and path.is_relative_to(root):
            inside = path.relative_to(root).as_posix()
            return inside if len(settings.sources) == 1 and root == settings.sources[0] else f"{root.name}/{inside}"
    return path.name


def _scan_hash(scan: SourceScan) -> str:
    paths = [str(source.path) for _, source in scan.modalities] + [str(scan.label.path if scan.label else "")]
    return hashlib.sha256(
        "\x1f".join([scan.patient, scan.session, *paths]).encode("utf-8", "surrogateescape")
    ).hexdigest()
