"""The prepared cohort on disk: read one scan at a time, so memory does not grow with the number of patients.

    COHORT/cohort.json           CohortInfo
    COHORT/scans.tsv             one ScanRecord a row
    COHORT/quarantine.tsv        what could not be used: file, reason, remedy (private)
    COHORT/scans/<scan>/<modality>.nii   float32 in [0, 1], uncompressed so that it can be mapped
    COHORT/scans/<scan>/label.nii        uint8, only where a label map came with the scan

Zone: private.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.model import CohortInfo, ScanRecord, Split
from anonsynth.errors import InputError
from anonsynth.files import UNFINISHED, read_json, read_tsv, replacing, write_json, write_tsv

__all__ = ["Cohort", "Scan", "open_cohort", "save_cohort_tables", "save_scan"]

SCAN_COLUMNS = ("scan", "patient", "split", "modalities", "labelled", "fov_low", "fov_high", "group", "sha256")


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan in memory.

    Attributes:
        record: Its row.
        image: (C, X, Y, Z) float32 in [0, 1]; channels in the cohort's order; an absent modality is 0.
        present: (C,) bool; False where the modality was not acquired.
        label: (X, Y, Z) uint8; all 0 if the scan is not labelled.
    """

    record: ScanRecord
    image: FloatVolume
    present: np.ndarray[tuple[int], np.dtype[np.bool_]]
    label: LabelVolume


@dataclass(frozen=True, slots=True)
class Cohort:
    """An open cohort: its tables in memory, its voxels on disk."""

    folder: Path
    info: CohortInfo
    records: tuple[ScanRecord, ...]

    @property
    def grid(self) -> Grid:
        """The one grid of all scans."""
        return self.info.grid.grid

    def of(self, split: Split) -> tuple[ScanRecord, ...]:
        """Return the rows of one side of the split."""
        return tuple(record for record in self.records if record.split is split)

    def patients(self, split: Split | None = None) -> tuple[str, ...]:
        """Return the patients' pseudonyms, sorted, of one side or of both."""
        return tuple(sorted({r.patient for r in self.records if split is None or r.split is split}))

    def load(self, record: ScanRecord) -> Scan:
        """Read one scan."""
        folder = self.folder / "scans" / record.scan
        names = self.info.modalities
        image = np.zeros((len(names), *self.info.grid.shape), np.float32)
        present = np.array([name in record.modalities for name in names], bool)
        for channel, name in enumerate(names):
            if present[channel]:
                image[channel] = _read(folder / f"{name}.nii").astype(np.float32, copy=False)
        label = np.zeros(self.info.grid.shape, np.uint8)
        if record.labelled:
            label = _read(folder / "label.nii").astype(np.uint8, copy=False)
        return Scan(record, image, present, label)


def open_cohort(folder: Path) -> Cohort:
    """Open a cohort that `anonsynth ingest` wrote.

    Raises:
        InputError: If the folder is no finished cohort.
    """
    if (folder / UNFINISHED).exists():
        raise InputError("the cohort is unfinished", remedy="run the same `anonsynth ingest` again; it resumes")
    try:
        info = CohortInfo.model_validate(read_json(folder / "cohort.json"))
        records = tuple(_record(row) for row in read_tsv(folder / "scans.tsv"))
    except (ValidationError, KeyError, ValueError):
        raise InputError("the cohort's tables do not hold what they should", remedy="ingest it again") from None
    return Cohort(folder, info, records)


def save_scan(
    folder: Path, grid: Grid, images: Iterable[tuple[str, FloatVolume]], label: LabelVolume | None
) -> tuple[Path, ...]:
    """Write one scan's volumes atomically; return the files in a fixed order.

    Args:
        folder: `COHORT/scans/<scan>`.
        grid: The cohort's grid.
        images: (modality, (X, Y, Z) float32 in [0, 1]) of the modalities that were acquired.
        label: (X, Y, Z) uint8 or None.
    """
    written = []
    volumes = [(name, np.ascontiguousarray(image, np.float32)) for name, image in images]
    for name, image in volumes:
        written.append(_save(folder / f"{name}.nii", image, grid))
    if label is not None:
        written.append(_save(folder / "label.nii", np.ascontiguousarray(label, np.uint8), grid))
    return tuple(written)


def save_cohort_tables(folder: Path, info: CohortInfo, records: Sequence[ScanRecord]) -> None:
    """Write `scans.tsv`, then `cohort.json`."""
    rows = []
    for record in records:
        row = record.model_dump(mode="json")
        row["modalities"] = ",".join(record.modalities)
        row["fov_low"] = ",".join(map(str, record.fov_low))
        row["fov_high"] = ",".join(map(str, record.fov_high))
        rows.append(row)
    write_tsv(folder / "scans.tsv", SCAN_COLUMNS, rows)
    write_json(folder / "cohort.json", info.model_dump(mode="json", by_alias=True))


def _save(path: Path, array: FloatVolume | LabelVolume, grid: Grid) -> Path:
    image = nib.Nifti1Image(array, grid.affine)
    image.header.set_xyzt_units("mm", "sec")
    with replacing(path) as temporary:
        nib.save(image, temporary)
    return path


def _read(path: Path) -> npt.NDArray[np.generic]:
    try:
        return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError, nib.wrapstruct.WrapStructError):
        name = f"{path.parent.name}/{path.name}"
        raise InputError(f"{name} of the cohort cannot be read", remedy="ingest the cohort again") from None


def _record(row: dict[str, str]) -> ScanRecord:
    return ScanRecord(
        scan=row["scan"],
        patient=row["patient"],
        split=Split(row["split"]),
        modalities=tuple(name for name in row["modalities"].split(",") if name),
        labelled=row["labelled"] == "True",
        fov_low=_triple(row["fov_low"]),
        fov_high=_triple(row["fov_high"]),
        group=row["group"],
        sha256=row["sha256"],
    )


def _triple(text: str) -> tuple[int, int, int]:
    x, y, z = (int(part) for part in text.split(","))
    return (x, y, z)
