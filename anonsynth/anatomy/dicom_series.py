"""Simulated volumes as classic DICOM MR series, as a scanner would export them; every header says SyntheticData."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from anonsynth._version import __version__
from anonsynth.anatomy.physics import Acquisition, Kind
from anonsynth.cohort.geometry import Grid

__all__ = ["SeriesOrigin", "write_series"]

_SCANNING = {
    Kind.SPIN_ECHO: ("SE", "SK", "2D"),
    Kind.SPOILED_GRADIENT_ECHO: ("GR", "SP", "3D"),
    Kind.MAGNETISATION_PREPARED: (["GR", "IR"], ["SP", "MP"], "3D"),
    Kind.FLAIR: (["SE", "IR"], "SK", "2D"),
}
"""Scanning sequence, sequence variant and acquisition type by pulse sequence (DICOM PS3.3 C.8.3.1)."""


@dataclass(frozen=True)
class SeriesOrigin:
    """Whose series it is: an invented person and study.

    Attributes:
        patient: Invented identifier such as `sim-001`.
        number: Number of the series within the study.
        entropy: What the UIDs are derived from; the same entropy gives the same study and frame of reference.
        site: Invented site, shown as the institution.
    """

    patient: str
    number: int
    entropy: str
    site: str


def write_series(
    folder: Path, voxels: npt.NDArray[np.uint16], grid: Grid, acquisition: Acquisition, origin: SeriesOrigin
) -> None:
    """Write one file per axial slice, from foot to head.

    Args:
        folder: Where `0001.dcm`, `0002.dcm`, ... go.
        voxels: (X, Y, Z) stored values below 4096.
        grid: RAS+ grid of the voxels.
        acquisition: How they were acquired.
        origin: Whose they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid(entropy_srcs=[origin.entropy, acquisition.modality])
    common = _common(grid, acquisition, origin)
    for index in range(grid.shape[2]):
        uid = generate_uid(entropy_srcs=[series, str(index)])
        dataset = FileDataset("", Dataset(common), file_meta=_file_meta(uid), preamble=b"\0" * 128)
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = uid
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = _position(grid, index)
        dataset.SliceLocation = round(grid.origin[2] + index * grid.spacing[2], 4)
        # Columns run to the patient's left and rows to the back; RAS+ runs to the right and the front.
        dataset.PixelData = np.ascontiguousarray(voxels[::-1, ::-1, index].T.astype("<u2")).tobytes()
        dataset.save_as(folder / f"{index + 1:04d}.dcm", enforce_file_format=True)


def _file_meta(uid: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _position(grid: Grid, index: int) -> list[float]:
    """Return the centre of the slice's first pixel in DICOM's LPS world, mm."""
    far_right, far_front = (
        o + (n - 1) * s for o, n, s in zip(grid.origin[:2], grid.shape[:2], grid.spacing[:2], strict=True)
    )
    return [round(-far_right, 4), round(-far_front, 4), round(grid.origin[2] + index * grid.spacing[2], 4)]


def _common(grid: Grid, acquisition: Acquisition, origin: SeriesOrigin) -> Dataset:
    """Return what all slices of a series share."""
    dataset = Dataset()
    _identify(dataset, acquisition, origin)
    _describe_acquisition(dataset, acquisition)
    dataset.SliceThickness = round(grid.spacing[2], 4)
    dataset.SpacingBetweenSlices = round(grid.spacing[2], 4)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [round(grid.spacing[1], 4), round(grid.spacing[0], 4)]
    dataset.Columns, dataset.Rows = grid.shape[0], grid.shape[1]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    return dataset


def _identify(dataset: Dataset, acquisition: Acquisition, origin: SeriesOrigin) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = MRImageStorage
    dataset.Modality = "MR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.SyntheticData = "YES"
    dataset.Manufacturer = "anonsynth"
    dataset.ManufacturerModelName = "simulator"
    dataset.SoftwareVersions = __version__
    dataset.InstitutionName = f"simulated {origin.site}"
    dataset.PatientName = f"SIMULATED^{origin.patient.upper()}"
    dataset.PatientID = origin.patient
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate, dataset.StudyTime = "20000101", "000000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.StudyDescription = "simulated brain"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[origin.entropy, "study"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[origin.entropy, "frame"])
    dataset.PositionReferenceIndicator = ""
    dataset.SeriesNumber = origin.number
    dataset.SeriesDescription = dataset.ProtocolName = acquisition.modality
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "BRAIN"
    dataset.BurnedInAnnotation = "NO"


def _describe_acquisition(dataset: Dataset, acquisition: Acquisition) -> None:
    sequence, variant, kind = _SCANNING[acquisition.kind]
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.MRAcquisitionType = sequence, variant, kind
    dataset.ScanOptions = ""
    dataset.RepetitionTime, dataset.EchoTime = round(acquisition.tr, 3), round(acquisition.te, 3)
    dataset.EchoTrainLength = 1
    dataset.FlipAngle = round(acquisition.flip, 2)
    dataset.MagneticFieldStrength = acquisition.field
    if acquisition.ti:
        dataset.InversionTime = round(acquisition.ti, 3)
    if acquisition.contrast:
        dataset.ContrastBolusAgent = "simulated gadolinium chelate"
