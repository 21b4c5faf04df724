"""The first look at a scan: is it usable, how large is it, which labels does it have, is it somebody else's.

Of each scan only this summary stays in memory and, until ingest is done, on disk, so that an interrupted ingest need
not look again.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from anonsynth.cohort.checks import check_image, check_label
from anonsynth.cohort.duplicates import content_hash, fingerprint
from anonsynth.cohort.foreground import bounding_box, find_foreground
from anonsynth.cohort.geometry import LabelVolume
from anonsynth.cohort.grid_inference import Extent
from anonsynth.cohort.normalise import normalise
from anonsynth.cohort.orient import Box, box_of, corners, overlap, spacing_of, to_ras
from anonsynth.cohort.sources import RawVolume, Refusal, SourceScan, VolumeSource
from anonsynth.errors import InputError

__all__ = ["ScanSurvey", "VolumeSurvey", "read_image", "read_label", "survey_scan"]

MIN_OVERLAP = 0.25
GRID_TOLERANCE = 0.5
"""Voxels by which the corners of a label map and of its image may lie apart."""
Triple = tuple[float, float, float]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RefusalRow(_Frozen):
    """A `Refusal` as JSON."""

    path: str
    reason: str
    remedy: str


class VolumeSurvey(_Frozen):
    """One usable image of a scan: its modality, hash of its voxels, and fingerprint (base64 of float32)."""

    modality: str
    content: str
    fingerprint: str

    @property
    def vector(self) -> npt.NDArray[np.float32]:
        """The fingerprint, (1728,) float32."""
        return np.frombuffer(base64.b64decode(self.fingerprint), "<f4").astype(np.float32)


class ScanSurvey(_Frozen):
    """What ingest knows of a scan before the grid is settled.

    Attributes:
        volumes: The usable images, in the source's order; none means that the scan is left out.
        spacing: Voxel size (mm) along right, anterior, superior.
        centre: Centre of the body's bounding box, RAS+ mm.
        foreground: Size of that box in mm.
        labelled: Size in mm of the box around `centre` that holds every labelled voxel.
        has_label: Whether there is a usable label map.
        values: Its values without 0.
        refusals: What could not be used.
    """

    volumes: tuple[VolumeSurvey, ...] = ()
    spacing: Triple = (1.0, 1.0, 1.0)
    centre: Triple = (0.0, 0.0, 0.0)
    foreground: Triple = (0.0, 0.0, 0.0)
    labelled: Triple = (0.0, 0.0, 0.0)
    has_label: bool = False
    values: tuple[int, ...] = ()
    refusals: tuple[RefusalRow, ...] = ()

    @property
    def extent(self) -> Extent:
        """What the scan asks of the grid."""
        return Extent(self.spacing, self.foreground, self.labelled)

    def refused(self) -> tuple[Refusal, ...]:
        """Return the refusals."""
        return tuple(Refusal(Path(row.path), row.reason, row.remedy) for row in self.refusals)


@dataclass(slots=True)
class _Frame:
    """Where the images seen so far lie."""

    field: Box | None = None
    body: Box | None = None
    spacing: Triple | None = None
    corners: list[tuple[npt.NDArray[np.float64], float]] | None = None


def read_image(source: VolumeSource) -> RawVolume:
    """Read an image, check it, and turn it to RAS+ axes; raise InputError with one sentence."""
    raw = source.read()
    check_image(raw, source.path)
    return to_ras(raw)


def read_label(source: VolumeSource, known: Collection[int]) -> tuple[LabelVolume, npt.NDArray[np.float64]]:
    """Read a label map, check it, turn it to RAS+ axes; return (X, Y, Z) uint8 and its affine."""
    raw = source.read()
    turned = to_ras(RawVolume(check_label(raw, source.path, known), raw.affine))
    return turned.array.astype(np.uint8, copy=False), turned.affine


def survey_scan(scan: SourceScan, known: Collection[int]) -> ScanSurvey:
    """Read a scan once, one volume at a time, and summarise it; what is broken is refused, never raised.

    Args:
        scan: The scan as its source has it.
        known: Label values of the source's lookup table; empty if it has none.
    """
    frame, refusals, volumes = _Frame(corners=[]), [], []
    for modality, source in scan.modalities:
        try:
            volumes.append(_look(modality, source, frame))
        except InputError as error:
            refusals.append(_row(source, error))
    if frame.body is None or frame.spacing is None:
        if scan.label is not None:
            orphan = InputError("the label map's image cannot be used", remedy="mend the image first")
            refusals.append(_row(scan.label, orphan))
        return ScanSurvey(refusals=tuple(refusals))
    centre = (frame.body[0] + frame.body[1]) / 2
    values: tuple[int, ...] = ()
    labelled, has_label = np.zeros(3), False
    if scan.label is not None:
        try:
            values, labelled = _look_label(scan.label, frame, centre, known)
            has_label = True
        except InputError as error:
            refusals.append(_row(scan.label, error))
    return ScanSurvey(
        volumes=tuple(volumes),
        spacing=frame.spacing,
        centre=_triple(centre),
        foreground=_triple(frame.body[1] - frame.body[0]),
        labelled=_triple(labelled),
        has_label=has_label,
        values=values,
        refusals=tuple(refusals),
    )


def _look(modality: str, source: VolumeSource, frame: _Frame) -> VolumeSurvey:
    try:
        return _look_image(modality, source, frame)
    except (ArithmeticError, IndexError, ValueError, MemoryError):  # one odd file must not end the others' ingest
        remedy = "open it in a viewer and export it again"
        raise InputError("the image cannot be prepared", remedy=remedy, private_path=source.path) from None


def _look_image(modality: str, source: VolumeSource, frame: _Frame) -> VolumeSurvey:
    raw = read_image(source)
    shape = raw.array.shape
    field = box_of(raw.affine, (0, 0, 0), shape)
    if frame.field is not None and overlap(frame.field, field) < MIN_OVERLAP:
        reason = "the image lies elsewhere in space than the scan's other images"
        raise InputError(reason, remedy="correct its affine, or make it a session of its own", private_path=source.path)
    body = find_foreground(raw.array)
    image = normalise(raw.array, body.mask, source.path)
    vector = fingerprint(image, raw.affine)
    box = box_of(raw.affine, body.low, body.high)
    if frame.body is None or frame.corners is None:
        frame.field, frame.body, frame.spacing = field, box, spacing_of(raw.affine)
    else:
        frame.body = (np.minimum(frame.body[0], box[0]), np.maximum(frame.body[1], box[1]))
    if frame.corners is not None:
        frame.corners.append((corners(raw.affine, (0, 0, 0), shape), max(spacing_of(raw.affine))))
    coded = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return VolumeSurvey(modality=modality, content=content_hash(raw.array), fingerprint=coded)


def _look_label(
    source: VolumeSource, frame: _Frame, centre: npt.NDArray[np.float64], known: Collection[int]
) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    label, affine = read_label(source, known)
    mine = corners(affine, (0, 0, 0), label.shape)
    fits = (
        np.abs(mine - theirs).max() <= GRID_TOLERANCE * max(size, *spacing_of(affine))
        for theirs, size in frame.corners or ()
    )
    if not any(fits):
        reason = "the label map covers another field of view than its images"
        raise InputError(reason, remedy="resample it to the grid of its image", private_path=source.path)
    values = tuple(int(value) for value in np.unique(label) if value)
    if not values:
        return (), np.zeros(3)
    low, high = box_of(affine, *bounding_box(label > 0))
    reach = np.maximum(np.abs(low - centre), np.abs(high - centre))
    return values, 2 * reach + np.array(spacing_of(affine))  # a grid is shifted by up to half a voxel onto a scan's own


def _row(source: VolumeSource, error: InputError) -> RefusalRow:
    return RefusalRow(path=str(error.private_path or source.path), reason=error.reason, remedy=error.remedy)


def _triple(values: npt.NDArray[np.float64]) -> Triple:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
