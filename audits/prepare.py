"""A folder of NIfTI, whoever made it, brought onto one grid and opened as a cohort.

Private work inside the audit's folder: the volumes are written once, uncompressed, so that every later step reads one
scan at a time; they are removed when the audit is done. A scan that was written before a kill is not written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anonsynth._version import __version__
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.grid_inference import infer_grid
from anonsynth.cohort.model import CohortInfo, GridInfo, LabelEntry, ScanRecord, Split
from anonsynth.cohort.prepare import prepare_scan
from anonsynth.cohort.sources import SourceScan, VolumeSource
from anonsynth.cohort.store import Cohort, open_cohort, save_cohort_tables, save_scan
from anonsynth.cohort.survey import read_image, read_label, survey_scan
from anonsynth.errors import InputError
from anonsynth.files import read_json, sha256_file, write_json
from anonsynth.progress import Progress

__all__ = ["NamedScan", "Skipped", "choose_grid", "modalities_of", "prepare", "unique_names"]

RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class NamedScan:
    """A scan of a folder under the name it has in the audit."""

    scan: str
    patient: str
    split: Split
    source: SourceScan


@dataclass(frozen=True, slots=True)
class Skipped:
    """A scan of a folder that cannot be compared, and why."""

    scan: str
    reason: str


def unique_names(scans: Sequence[SourceScan]) -> tuple[str, ...]:
    """Name the scans of a substitute cohort by their own keys, in letters that a folder's name may have."""
    patients = Counter(scan.patient for scan in scans)
    names = [scan.patient if patients[scan.patient] == 1 else f"{scan.patient}_{scan.session}" for scan in scans]
    safe = ["".join(c if c.isalnum() or c in "-_." else "-" for c in name).lstrip(".") or "scan" for name in names]
    taken: set[str] = set()
    unique = []
    for name in safe:
        free = next(f"{name}{end}" for end in _endings() if f"{name}{end}".casefold() not in taken)
        taken.add(free.casefold())  # some file systems take A and a for the same folder
        unique.append(free)
    return tuple(unique)


def _endings() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in count(2))


def modalities_of(scans: Sequence[SourceScan]) -> tuple[str, ...]:
    """Return the modalities of a folder, in the order in which they are met."""
    return tuple(dict.fromkeys(name for scan in scans for name, _ in scan.modalities))


def choose_grid(scans: Sequence[SourceScan], progress: Progress) -> Grid:
    """Infer the training grid from the spacing and the bodies of a folder's scans; broken scans do not count."""
    surveys = [survey_scan(s, ()) for s in progress.track(scans, total=len(scans), what="measuring training scans")]
    extents = [survey.extent for survey in surveys if survey.volumes]
    if not extents:
        raise InputError("no training scan can be read", remedy="name a folder of readable NIfTI images")
    return Grid(*infer_grid(extents)).centred()


def prepare(
    scans: Sequence[NamedScan],
    folder: Path,
    grid: Grid,
    modalities: tuple[str, ...],
    progress: Progress,
    *,
    as_they_are: bool,
) -> tuple[Cohort, tuple[Skipped, ...]]:
    """Write scans onto the grid and open them as a cohort.

    Args:
        scans: What to write.
        folder: Private working folder; what is already there is kept.
        grid: The training grid.
        modalities: The training cohort's modalities; others are left out. A single modality needs no common name.
        progress: Shows how far it is.
        as_they_are: Take scans that lie on the grid already without normalising them, as they compare with a cohort
            that was normalised before. Beside a training folder, which is normalised here, nothing is spared it.

    Returns:
        The cohort, and what could not be compared: whole scans, and single volumes of scans that are in the cohort.

    Raises:
        InputError: If no scan shares a modality with the training cohort or can be read.
    """
    records: list[ScanRecord] = []
    skipped: list[Skipped] = []
    for named in progress.track(scans, total=len(scans), what="bringing scans onto one grid"):
        place = folder / "scans" / named.scan
        if not (place / RECORD).exists():
            try:
                _write(named, place, grid, modalities, as_it_is=as_they_are)
            except InputError as error:
                skipped.append(Skipped(named.scan, str(error)))
                continue
        written = read_json(place / RECORD)
        skipped += [Skipped(named.scan, reason) for reason in written["refused"]]
        records.append(ScanRecord.model_validate(written["record"]))
    if not records:
        reason = skipped[0].reason if skipped else "it holds no scan"
        raise InputError(f"no scan of the folder can be compared: {reason}")
    save_cohort_tables(folder, _info(records, folder, grid, modalities), records)
    return open_cohort(folder), tuple(skipped)


def _write(named: NamedScan, place: Path, grid: Grid, modalities: tuple[str, ...], *, as_it_is: bool) -> None:
    scan = replace(named.source, modalities=_matched(named.source, modalities))
    on_grid = _on_grid(scan, grid) if as_it_is else None
    refused: list[str] = []
    if on_grid is None:
        survey = survey_scan(scan, ())
        refused = [row.reason for row in survey.refusals]
        if not survey.volumes:
            raise InputError(refused[0] if refused else "the scan has no image")
        record = prepare_scan(
            scan,
            survey,
            GridInfo(shape=grid.shape, spacing=grid.spacing),
            known=(),
            folder=place,
            patient=named.patient,
            split=named.split,
            group=",".join(map(str, survey.values)),
        )
    else:
        images, label = on_grid
        written = save_scan(place, grid, images, label)
        record = ScanRecord(
            scan=named.scan,
            patient=named.patient,
            split=named.split,
            modalities=tuple(name for name, _ in images),
            labelled=label is not None,
            fov_low=(0, 0, 0),
            fov_high=grid.shape,
            group="" if label is None else ",".join(str(value) for value in np.unique(label) if value),
            sha256=sha256_file(written[0]),
        )
    write_json(place / RECORD, {"record": record.model_dump(mode="json"), "refused": refused})


def _on_grid(scan: SourceScan, grid: Grid) -> tuple[list[tuple[str, FloatVolume]], LabelVolume | None] | None:
    """Take a scan as it is if all its volumes lie on the training grid already, as anonsynth's own do.

    Nothing is clipped, masked or moved then, so that a copy of a training scan stays the same to the last bit; a
    factor brings intensities of another scale to [0, 1].
    """
    try:
        return _taken(scan, grid)
    except InputError:  # the survey tells what of it can be used
        return None


def _taken(scan: SourceScan, grid: Grid) -> tuple[list[tuple[str, FloatVolume]], LabelVolume | None] | None:
    images = []
    for name, source in scan.modalities:
        raw = read_image(source)
        if not _lies_on(raw.array.shape, raw.affine, grid) or raw.array.min() < 0:
            return None
        images.append((name, np.asarray(raw.array, np.float32) / np.float32(max(float(raw.array.max()), 1.0))))
    if scan.label is None:
        return images, None
    label, affine = read_label(scan.label, ())
    return (images, label) if _lies_on(label.shape, affine, grid) else None


def _lies_on(shape: tuple[int, ...], affine: npt.NDArray[np.float64], grid: Grid) -> bool:
    return shape == grid.shape and np.allclose(affine, grid.affine, atol=1e-2)


def _matched(scan: SourceScan, modalities: tuple[str, ...]) -> tuple[tuple[str, VolumeSource], ...]:
    if len(scan.modalities) == 1 and len(modalities) == 1:
        return ((modalities[0], scan.modalities[0][1]),)
    own: Mapping[str, VolumeSource] = dict(scan.modalities)
    matched = tuple((name, own[name]) for name in modalities if name in own)
    if not matched:
        wanted = ", ".join(modalities)
        raise InputError("the scan has none of the training cohort's modalities", remedy=f"name its files {wanted}")
    return matched


def _info(records: Sequence[ScanRecord], folder: Path, grid: Grid, modalities: tuple[str, ...]) -> CohortInfo:
    values = sorted({int(value) for record in records for value in record.group.split(",") if value})
    holdout = sum(record.split is Split.HOLDOUT for record in records)
    return CohortInfo(
        anonsynth=__version__,
        layout="prepared for an audit",
        policy="n/a",
        seed=0,
        holdout_fraction=holdout / len(records),
        modalities=modalities,
        labels=tuple(LabelEntry(value=value, name=f"label {value}") for value in values),
        grid=GridInfo(shape=grid.shape, spacing=grid.spacing),
        grid_given=True,
        interpolation="linear",
        patients=len({record.patient for record in records}),
        scans=len(records),
        quarantined=0,
        merged_duplicates=0,
        settings_sha256=folder.name.rjust(64, "0")[:64],
    )
