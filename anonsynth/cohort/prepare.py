"""The second look at a scan: onto the grid and to disk."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from anonsynth.cohort.foreground import body_mask, bounding_box
from anonsynth.cohort.geometry import FloatVolume, Grid
from anonsynth.cohort.model import GridInfo, ScanRecord, Split
from anonsynth.cohort.normalise import normalise
from anonsynth.cohort.resample import field_of_view, place_grid, resample_image, resample_label
from anonsynth.cohort.sources import SourceScan
from anonsynth.cohort.store import save_scan
from anonsynth.cohort.survey import ScanSurvey, read_image, read_label
from anonsynth.files import sha256_file

__all__ = ["prepare_scan"]


def prepare_scan(
    scan: SourceScan,
    survey: ScanSurvey,
    grid: GridInfo,
    *,
    known: Collection[int],
    folder: Path,
    patient: str,
    split: Split,
    group: str,
) -> ScanRecord:
    """Read a scan again, normalise and resample it, and write it to `folder`.

    Args:
        scan: The scan as its source has it.
        survey: What the first look found; only what was usable then is read.
        grid: The cohort's grid.
        known: Label values of the source's lookup table.
        folder: `COHORT/scans/<scan>`, named by the scan's pseudonym.
        patient: The patient's pseudonym.
        split: The patient's side of the split.
        group: Site or group.
    """
    usable = {volume.modality for volume in survey.volumes}
    sources = [(modality, source) for modality, source in scan.modalities if modality in usable]
    seen = np.zeros(grid.shape, bool)
    placed: Grid | None = None
    images: list[tuple[str, FloatVolume]] = []
    for modality, source in sources:
        raw = read_image(source)
        placed = placed or place_grid(grid.shape, grid.spacing, np.array(survey.centre), raw)
        image = normalise(raw.array, body_mask(raw.array), source.path)
        images.append((modality, np.clip(resample_image(image, raw.affine, placed), 0.0, 1.0)))
        seen |= field_of_view(raw.array.shape, raw.affine, placed)
    label = None
    if survey.has_label and scan.label is not None and placed is not None:
        values, affine = read_label(scan.label, known)
        label = resample_label(values, affine, placed)
    low, high = bounding_box(seen)
    written = save_scan(folder, grid.grid, images, label)
    return ScanRecord(
        scan=folder.name,
        patient=patient,
        split=split,
        modalities=tuple(modality for modality, _ in images),
        labelled=label is not None,
        fov_low=low,
        fov_high=high,
        group=group,
        sha256=_digest(written),
    )


def _digest(files: Iterator[Path] | tuple[Path, ...]) -> str:
    return hashlib.sha256("\n".join(sha256_file(path) for path in files).encode("ascii")).hexdigest()
