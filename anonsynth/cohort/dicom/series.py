"""Every volume that the MR files under some folders hold, wanted or not: phase, single slices and mosaics too.

Ingest takes few of them (see `find`); the comparison with dcm2niix takes all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from anonsynth.cohort.dicom.discovery import headers
from anonsynth.cohort.dicom.geometry import place
from anonsynth.cohort.dicom.header import Frame
from anonsynth.cohort.dicom.rules import not_mr
from anonsynth.cohort.dicom.stacks import Series, group_series, parts, visits
from anonsynth.cohort.dicom.volume import DicomVolume
from anonsynth.cohort.sources import Refusal
from anonsynth.errors import InputError

__all__ = ["SeriesVolumes", "iter_series"]


@dataclass(frozen=True, slots=True)
class SeriesVolumes:
    """A series as 3-D volumes.

    Attributes:
        name: Hash of the series' identifiers; names it without naming the patient.
        volumes: What can be read, each time point, echo and component on its own.
        refusals: What is no volume, and why.
        files: The series' files; private.
    """

    name: str
    volumes: tuple[DicomVolume, ...]
    refusals: tuple[Refusal, ...]
    files: tuple[Path, ...]


def iter_series(roots: Sequence[Path]) -> Iterator[SeriesVolumes]:
    """Yield every series under the roots that has pixels, in a fixed order, with all volumes it holds."""
    series, _ = group_series(headers(roots))
    for one in series:
        if any(frame.rows and frame.columns for frame in one.frames):
            yield _volumes(one)


def _volumes(series: Series) -> SeriesVolumes:
    volumes: list[DicomVolume] = []
    refusals: list[Refusal] = []
    kind = not_mr(series.info)
    if kind:
        refusals.append(Refusal(series.frames[0].path, kind, ""))
    for part in () if kind else parts(series.frames):
        try:
            volumes.extend(_volumes_of(part))
        except InputError as error:
            refusals.append(Refusal(error.private_path or part[0].path, error.reason, error.remedy))
    digest = hashlib.sha256("\x1f".join(map(str, series.info.key)).encode()).hexdigest()[:12]
    files = tuple(dict.fromkeys(frame.path for frame in series.frames))
    return SeriesVolumes(digest, tuple(volumes), tuple(refusals), files)


def _volumes_of(part: tuple[Frame, ...]) -> Iterator[DicomVolume]:
    path = part[0].path
    if part[0].samples != 1:
        raise InputError("a colour image", private_path=path)
    if part[0].mosaic is not None:
        yield DicomVolume(part)
        return
    if "MOSAIC" in part[0].kind or "VFRAME" in part[0].kind:
        raise InputError("a mosaic that does not say how it is made", private_path=path)
    found = visits(part)
    if not found.volumes:
        raise InputError(f"{found.doubled} of {found.places} slices are there more than once", private_path=path)
    for volume in found.volumes:
        place(volume)
        yield DicomVolume(volume)
