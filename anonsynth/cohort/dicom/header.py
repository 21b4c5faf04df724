"""What ingest needs to know of a DICOM file before its voxels are read: its series, and a `Frame` per 2-D image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["Component", "DicomHeader", "Frame", "Mosaic", "Scaling", "SeriesInfo", "Vector"]

Vector = tuple[float, float, float]
"""Millimetres or direction cosines along left, posterior, superior (the DICOM patient axes, LPS+)."""


class Component(StrEnum):
    """Which part of the complex MR signal an image shows."""

    MAGNITUDE = "magnitude"
    PHASE = "phase"
    REAL = "real part"
    IMAGINARY = "imaginary part"


@dataclass(frozen=True, slots=True)
class Scaling:
    """From stored values to the values of the image.

    Attributes:
        slope: Rescale slope (0028,1053), or Philips' real world slope where that one is 1 or absent.
        intercept: Rescale intercept (0028,1052), likewise.
        philips: Philips' private scale slope (2005,100E); 0 where there is none.
    """

    slope: float = 1.0
    intercept: float = 0.0
    philips: float = 0.0


@dataclass(frozen=True, slots=True)
class Mosaic:
    """The slices of a volume as tiles of one image: a Siemens mosaic or a UIH grid.

    Attributes:
        count: Tiles that hold a slice.
        normal: Direction from the first tile's slice to the last one's, LPS+.
        corner: Centre of the first tile's first pixel in mm, LPS+; None (Siemens) if it follows from the whole image.
    """

    count: int
    normal: Vector
    corner: Vector | None = None


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """What all images of a series share; private.

    Attributes:
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        number: SeriesNumber, 0 if absent; some archives give one UID to several numbers.
        patient: Key of the person: PatientID and its issuer, or what stands in for them.
        sop_class: SOPClassUID.
        modality: MR, CT, SR and so on.
        manufacturer: Upper case.
        description: SeriesDescription and ProtocolName, lower case.
        contrast_agent: Whether a contrast agent is named.
        sequence: ScanningSequence's terms (SE, GR, IR, EP) and, of an enhanced file, their counterparts.
        acquisition: 2D or 3D, "" if unknown.
        tr: Repetition time in ms, 0 if unknown.
        ti: Inversion time in ms, 0 if unknown.
        flip: Flip angle in degrees, 0 if unknown.
    """

    study: str
    series: str
    number: int
    patient: str
    sop_class: str
    modality: str
    manufacturer: str
    description: str
    contrast_agent: bool
    sequence: frozenset[str]
    acquisition: str
    tr: float
    ti: float
    flip: float

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What tells series apart."""
        return (self.study, self.series, self.number, self.sop_class)


@dataclass(frozen=True, slots=True)
class Frame:
    """One 2-D image: a classic file, or a frame of a multi-frame file.

    Attributes:
        path: Its file; private.
        index: Number of the frame in its file, from 0.
        frames: Frames in the file.
        instance: SOPInstanceUID.
        number: InstanceNumber; never orders slices, only says at which end of a stack numbering began.
        rows: Rows.
        columns: Columns.
        samples: Samples per pixel; 1 unless it is a colour image.
        position: Centre of the first pixel in mm, LPS+; None if absent.
        row: Direction cosines along a row (of increasing column), LPS+; None if absent.
        column: Direction cosines along a column (of increasing row), LPS+; None if absent.
        spacing: Distance in mm between rows, and between columns; None if absent.
        thickness: Slice thickness in mm, 0 if unknown.
        gap: Stated distance in mm between the centres of slices, 0 if unknown.
        component: Magnitude, phase, real or imaginary part.
        kind: ImageType, upper case.
        echo: Echo time in ms, 0 if unknown.
        moment: What may tell the volumes of a 4-D series apart: acquisition, temporal position, b-value, trigger time.
        scaling: From stored values to those of the image.
        mosaic: How to take a mosaic apart; None where that is unknown or it is none.
    """

    path: Path
    index: int
    frames: int
    instance: str
    number: int
    rows: int
    columns: int
    samples: int
    position: Vector | None
    row: Vector | None
    column: Vector | None
    spacing: tuple[float, float] | None
    thickness: float
    gap: float
    component: Component
    kind: tuple[str, ...]
    echo: float
    moment: tuple[float, ...]
    scaling: Scaling
    mosaic: Mosaic | None = None


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """One file."""

    info: SeriesInfo
    frames: tuple[Frame, ...]
