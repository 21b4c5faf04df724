"""The usable volumes of one series, and a refusal with reason and remedy for everything else in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from anonsynth.cohort.dicom.contrast import recognise_contrast
from anonsynth.cohort.dicom.geometry import place
from anonsynth.cohort.dicom.header import Frame, SeriesInfo
from anonsynth.cohort.dicom.quiet import BROKEN
from anonsynth.cohort.dicom.rules import FEWEST_SLICES, part_verdict, series_verdict
from anonsynth.cohort.dicom.stacks import Series, Visits, orientations, parts, visits, whole_copies
from anonsynth.cohort.dicom.volume import DicomVolume
from anonsynth.cohort.sources import Refusal
from anonsynth.errors import InputError

__all__ = ["Candidate", "judge"]

_ONE_OF_THEM = "give one of its volumes as NIfTI, or leave the series out"
_SEND_ALL = "send the whole series, if there is more of it"
_SEND_ONE = "send each as a series of its own"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A volume that can become a modality of a scan.

    Attributes:
        info: Its series.
        contrast: Its modality.
        volume: What to read.
        secondary: Whether it was computed from other images, for example reformatted.
        slices: Slices.
        voxel: Volume of a voxel in mm³.
        echo: Echo time in ms.
    """

    info: SeriesInfo
    contrast: str
    volume: DicomVolume
    secondary: bool
    slices: int
    voxel: float
    echo: float

    @property
    def rank(self) -> tuple[object, ...]:
        """The best of several with one contrast sorts first: acquired, most slices, finest; then in a fixed order."""
        return (self.secondary, -self.slices, round(self.voxel, 4), self.echo, self.info.key)


def judge(series: Series) -> tuple[Candidate | Refusal, ...]:
    """Return what one series is good for; one refusal for each distinct reason. Never raises."""
    try:
        with np.errstate(all="ignore"):
            return tuple(_judge(series))
    except BROKEN:
        reason = "the numbers in the headers of the series cannot be"
        return (Refusal(series.frames[0].path, reason, "send the series again from the scanner or the archive"),)


def _judge(series: Series) -> Iterator[Candidate | Refusal]:
    frames, copies = whole_copies(series.frames)
    if copies:
        yield Refusal(copies[0].path, "the same images are there more than once; one copy is used", "remove the copies")
    verdict = series_verdict(series.info, frames)
    if verdict is not None:
        yield Refusal(min(frame.path for frame in frames), *verdict)
        return
    refused: dict[str, Refusal] = {}
    usable: list[tuple[Frame, ...]] = []
    for part in parts(frames):
        unfit = part_verdict(part[0])
        if unfit is None:
            usable.append(part)
        else:
            refused.setdefault(unfit[0], Refusal(min(frame.path for frame in part), *unfit))
    yield from refused.values()
    mixed = _mixed(usable)
    if mixed is not None:
        yield mixed
        return
    for part in usable:
        try:
            yield _candidate(series.info, part)
        except InputError as error:
            yield Refusal(error.private_path or part[0].path, error.reason, error.remedy)


def _mixed(usable: list[tuple[Frame, ...]]) -> Refusal | None:
    """Refuse a series whose images do not fit together: which of them make up the volume is not ours to guess."""
    frames = [part[0] for part in usable]
    if len(orientations(frames)) > 1:
        return Refusal(frames[0].path, "the slices have several orientations", _SEND_ONE)
    sizes = sorted((frame.rows, frame.columns, frame.spacing or (0.0, 0.0)) for frame in frames)
    if len(list(groupby(sizes, key=lambda size: (*size[:2], *np.round(size[2], 3))))) > 1:
        return Refusal(frames[0].path, "the slices have different sizes", _SEND_ONE)
    return None


def _candidate(info: SeriesInfo, part: tuple[Frame, ...]) -> Candidate:
    """Make a candidate of one part.

    Raises:
        InputError: If it is no 3-D volume.
    """
    if not (part[0].rows and part[0].columns):
        raise InputError("the images do not say how large they are", remedy=_SEND_ONE, private_path=part[0].path)
    if len(part) == 1:
        raise InputError(
            "a single slice, not a volume",
            remedy=_SEND_ALL,
            private_path=part[0].path,
        )
    _check_visits(visits(part), part)
    placement = place(part)
    if len(part) < FEWEST_SLICES:
        raise InputError(
            f"only {len(part)} slices, not a volume",
            remedy=_SEND_ALL,
            private_path=part[0].path,
        )
    frames = placement.frames
    return Candidate(
        info=info,
        contrast=recognise_contrast(info, frames[0].echo),
        volume=DicomVolume(frames),
        secondary="SECONDARY" in frames[0].kind or "MPR" in frames[0].kind,
        slices=len(frames),
        voxel=float(abs(np.linalg.det(placement.affine[:3, :3]))),
        echo=frames[0].echo,
    )


def _check_visits(found: Visits, part: tuple[Frame, ...]) -> None:
    """Refuse what visits its places more than once: as a whole a 4-D series, here and there a doubled slice."""
    if found.most == 1:
        return
    path = min(frame.path for frame in part)
    if found.volumes:
        raise InputError(
            f"a 4-D series: {found.most} volumes at the same place", remedy=_ONE_OF_THEM, private_path=path
        )
    if 2 * found.doubled <= found.places:
        number = "a slice is" if found.doubled == 1 else f"{found.doubled} slices are"
        raise InputError(
            f"{number} there more than once", remedy="remove the copy that does not belong", private_path=path
        )
    raise InputError("a 4-D series that was not completed", remedy=_ONE_OF_THEM, private_path=path)
