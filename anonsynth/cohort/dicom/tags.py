"""The tags ingest reads; all others are skipped, which keeps discovery fast and private values out of memory."""

from __future__ import annotations

from pydicom.tag import BaseTag, Tag

__all__ = ["CSA_IMAGE_HEADER", "GE_COMPLEX_COMPONENT", "MOSAIC_COUNT", "PHILIPS_SCALE_SLOPE", "UIH_TILES", "WANTED"]

CSA_IMAGE_HEADER = Tag(0x0029, 0x1010)
MOSAIC_COUNT = Tag(0x0019, 0x100A)
PHILIPS_SCALE_SLOPE = Tag(0x2005, 0x100E)
UIH_TILES = Tag(0x0065, 0x1051)
GE_COMPLEX_COMPONENT = Tag(0x0043, 0x102F)

_NAMES = (
    "AcquisitionNumber",
    "BitsAllocated",
    "Columns",
    "ComplexImageComponent",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "DiffusionBValue",
    "EchoPlanarPulseSequence",
    "EchoPulseSequence",
    "EchoTime",
    "FlipAngle",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InstanceNumber",
    "InversionRecovery",
    "InversionTime",
    "IssuerOfPatientID",
    "MRAcquisitionType",
    "Manufacturer",
    "Modality",
    "NumberOfFrames",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PerFrameFunctionalGroupsSequence",
    "PixelSpacing",
    "ProtocolName",
    "RealWorldValueMappingSequence",
    "RepetitionTime",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "ScanningSequence",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "SpacingBetweenSlices",
    "StudyInstanceUID",
    "TemporalPositionIdentifier",
    "TriggerTime",
)

WANTED: list[BaseTag] = [
    *map(Tag, _NAMES),
    Tag(0x0019, 0x0010),
    Tag(0x0029, 0x0010),
    Tag(0x0043, 0x0010),
    Tag(0x0065, 0x0010),
    Tag(0x2005, 0x0010),
    CSA_IMAGE_HEADER,
    GE_COMPLEX_COMPONENT,
    MOSAIC_COUNT,
    PHILIPS_SCALE_SLOPE,
    UIH_TILES,
]
