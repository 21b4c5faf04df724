"""A file as a header: what its series is, and the frame of a classic (one image, one file) DICOM."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from anonsynth.cohort.dicom.csa import slice_normal
from anonsynth.cohort.dicom.header import Component, Frame, Mosaic, Scaling, SeriesInfo, Vector
from anonsynth.cohort.dicom.tags import (
    CSA_IMAGE_HEADER,
    GE_COMPLEX_COMPONENT,
    MOSAIC_COUNT,
    PHILIPS_SCALE_SLOPE,
    UIH_TILES,
)
from anonsynth.cohort.dicom.values import first_item, flag, items, number, numbers, text, vector, whole, words

__all__ = ["classic_frame", "component_of", "directions", "scaling_of", "series_info"]

_GE_COMPONENTS = (Component.MAGNITUDE, Component.PHASE, Component.REAL, Component.IMAGINARY)
_NAMED_COMPONENTS = {
    "PHASE": Component.PHASE,
    "PHASE MAP": Component.PHASE,
    "P": Component.PHASE,
    "REAL": Component.REAL,
    "R": Component.REAL,
    "IMAGINARY": Component.IMAGINARY,
    "I": Component.IMAGINARY,
}
_NO_AGENT = {"", "NONE", "NO", "N", "0", "WITHOUT", "NO CONTRAST", "NATIVE"}


def series_info(dataset: Dataset) -> SeriesInfo:
    """Return what all images of the file's series share."""
    agent = words(dataset, "ContrastBolusAgent")
    described = (text(dataset, "SeriesDescription"), text(dataset, "ProtocolName"))
    return SeriesInfo(
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        number=whole(dataset, "SeriesNumber"),
        patient=_patient(dataset),
        sop_class=text(dataset, "SOPClassUID"),
        modality=text(dataset, "Modality").upper(),
        manufacturer=text(dataset, "Manufacturer").upper(),
        description=" ".join(dict.fromkeys(part for part in described if part)).lower(),
        contrast_agent=bool(set(agent) - _NO_AGENT) or len(first_item(dataset, "ContrastBolusAgentSequence")) > 0,
        sequence=_sequence(dataset),
        acquisition=text(dataset, "MRAcquisitionType").upper(),
        tr=number(dataset, "RepetitionTime"),
        ti=number(dataset, "InversionTime"),
        flip=number(dataset, "FlipAngle"),
    )


def classic_frame(dataset: Dataset, path: Path, info: SeriesInfo) -> Frame:
    """Return the one image of a classic file."""
    row, column = directions(dataset)
    kind = words(dataset, "ImageType")
    return Frame(
        path=path,
        index=0,
        frames=max(1, whole(dataset, "NumberOfFrames", 1)),
        instance=text(dataset, "SOPInstanceUID"),
        number=whole(dataset, "InstanceNumber"),
        rows=whole(dataset, "Rows"),
        columns=whole(dataset, "Columns"),
        samples=whole(dataset, "SamplesPerPixel", 1),
        position=vector(dataset, "ImagePositionPatient"),
        row=row,
        column=column,
        spacing=_spacing(dataset),
        thickness=number(dataset, "SliceThickness"),
        gap=abs(number(dataset, "SpacingBetweenSlices")),
        component=_classic_component(dataset, kind, info),
        kind=kind,
        echo=number(dataset, "EchoTime"),
        moment=(
            number(dataset, "TemporalPositionIdentifier"),
            number(dataset, "DiffusionBValue"),
            number(dataset, "TriggerTime"),
            number(dataset, "AcquisitionNumber"),
        ),
        scaling=scaling_of(dataset, dataset, dataset, info),
        mosaic=_mosaic(dataset, kind),
    )


def directions(dataset: Dataset) -> tuple[Vector | None, Vector | None]:
    """Return the direction cosines of ImageOrientationPatient: along a row, along a column."""
    found = numbers(dataset, "ImageOrientationPatient")
    if len(found) != 6 or not any(found[:3]) or not any(found[3:]):
        return None, None
    return (found[0], found[1], found[2]), (found[3], found[4], found[5])


def component_of(kind: tuple[str, ...], stated: str = "") -> Component:
    """Return the part of the signal that ComplexImageComponent or, without it, ImageType names."""
    if stated in _NAMED_COMPONENTS:
        return _NAMED_COMPONENTS[stated]
    if stated == "MAGNITUDE":
        return Component.MAGNITUDE
    # The first two values are ORIGINAL/DERIVED and PRIMARY/SECONDARY, except Philips' "PHASE MAP", which comes first.
    for name in kind[2:] + tuple(part for part in kind[:2] if part == "PHASE MAP"):
        if name in _NAMED_COMPONENTS:
            return _NAMED_COMPONENTS[name]
    return Component.MAGNITUDE


def scaling_of(rescale: Dataset, world: Dataset, private: Dataset, info: SeriesInfo) -> Scaling:
    """Return the scaling as dcm2niix takes it from a header.

    Args:
        rescale: Where RescaleSlope and RescaleIntercept are.
        world: Where RealWorldValueMappingSequence is.
        private: Where Philips' scale slope is.
        info: The series.
    """
    slope = number(rescale, "RescaleSlope", 1.0) or 1.0
    intercept = number(rescale, "RescaleIntercept")
    if "PHILIPS" not in info.manufacturer:
        return Scaling(slope, intercept)
    real = first_item(world, "RealWorldValueMappingSequence")
    if slope == 1.0:
        slope = number(real, "RealWorldValueSlope", 1.0) or 1.0
    if intercept == 0.0:
        intercept = number(real, "RealWorldValueIntercept")
    return Scaling(slope, intercept, number(private, PHILIPS_SCALE_SLOPE))


def _patient(dataset: Dataset) -> str:
    """Return the person's key: the identifier and its issuer; else name and birth date; else the study alone."""
    identifier = text(dataset, "PatientID")
    if identifier:
        return "\x1f".join([identifier, text(dataset, "IssuerOfPatientID")])
    name = text(dataset, "PatientName")
    if name:
        return "\x1f".join(["name", name.upper(), text(dataset, "PatientBirthDate")])
    return "\x1f".join(["study", text(dataset, "StudyInstanceUID")])


def _sequence(dataset: Dataset) -> frozenset[str]:
    terms = set(words(dataset, "ScanningSequence"))
    pulse = text(dataset, "EchoPulseSequence").upper()
    terms |= {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}.get(pulse, set())
    if flag(dataset, "EchoPlanarPulseSequence"):
        terms.add("EP")
    if flag(dataset, "InversionRecovery"):
        terms.add("IR")
    return frozenset(terms)


def _classic_component(dataset: Dataset, kind: tuple[str, ...], info: SeriesInfo) -> Component:
    found = component_of(kind, text(dataset, "ComplexImageComponent").upper())
    if found is Component.MAGNITUDE and info.manufacturer.startswith("GE"):
        code = whole(dataset, GE_COMPLEX_COMPONENT)
        return _GE_COMPONENTS[code] if 0 <= code < len(_GE_COMPONENTS) else found
    return found


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    found = numbers(dataset, "PixelSpacing")
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else None


def _mosaic(dataset: Dataset, kind: tuple[str, ...]) -> Mosaic | None:
    if "VFRAME" in kind:
        return _grid(dataset)
    if "MOSAIC" not in kind or CSA_IMAGE_HEADER not in dataset:
        return None
    count = whole(dataset, MOSAIC_COUNT)
    header = dataset[CSA_IMAGE_HEADER].value
    normal = slice_normal(header) if isinstance(header, bytes) else None
    return Mosaic(count, normal) if count > 0 and normal is not None else None


def _grid(dataset: Dataset) -> Mosaic | None:
    """Return how a UIH grid is made: a private sequence has one item with the position of each tile."""
    places = [vector(tile, "ImagePositionPatient") for tile in items(dataset, UIH_TILES)]
    if len(places) < 2 or places[0] is None or places[-1] is None:
        return None
    (a, b, c), (d, e, f) = places[0], places[-1]
    return Mosaic(len(places), (d - a, e - b, f - c), places[0])
