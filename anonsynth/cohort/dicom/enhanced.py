"""The frames of an enhanced multi-frame file, from its per-frame and shared functional groups (PS3.3 C.7.6.16)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydicom.dataset import Dataset

from anonsynth.cohort.dicom.classic import classic_frame, component_of, directions, scaling_of
from anonsynth.cohort.dicom.header import Frame, Scaling, SeriesInfo
from anonsynth.cohort.dicom.tags import PHILIPS_SCALE_SLOPE
from anonsynth.cohort.dicom.values import first_item, items, number, numbers, text, vector, words

__all__ = ["enhanced_frames", "enhanced_info", "is_enhanced"]

_PHILIPS_PRIVATE_GROUP = (0x2005, 0x140F)


def is_enhanced(dataset: Dataset) -> bool:
    """Tell whether the file describes its frames by functional groups."""
    return "PerFrameFunctionalGroupsSequence" in dataset


def enhanced_info(dataset: Dataset, info: SeriesInfo) -> SeriesInfo:
    """Return `info` with what the functional groups say of timing and inversion."""
    groups = _groups(dataset)
    first = groups[0] if groups else Dataset()
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    timing = _group("MRTimingAndRelatedParametersSequence", first, shared)
    inversion = numbers(_group("MRModifierSequence", first, shared), "InversionTimes")
    return replace(
        info,
        tr=number(timing, "RepetitionTime", info.tr),
        flip=number(timing, "FlipAngle", info.flip),
        ti=inversion[0] if inversion else info.ti,
    )


def enhanced_frames(dataset: Dataset, path: Path, info: SeriesInfo) -> tuple[Frame, ...]:
    """Return the frames in the order of the file, which says nothing about their place in the patient."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    file = classic_frame(dataset, path, info)
    groups = _groups(dataset)
    return tuple(_frame(file, index, len(groups), group, shared, info) for index, group in enumerate(groups))


def _frame(file: Frame, index: int, frames: int, own: Dataset, shared: Dataset, info: SeriesInfo) -> Frame:
    measures = _group("PixelMeasuresSequence", own, shared)
    kind = _group("MRImageFrameTypeSequence", own, shared)
    content = _group("FrameContentSequence", own, shared)
    diffusion = _group("MRDiffusionSequence", own, shared)
    trigger = _group("CardiacSynchronizationSequence", own, shared)
    private = _philips(own, shared)
    row, column = directions(_group("PlaneOrientationSequence", own, shared))
    spacing = numbers(measures, "PixelSpacing")
    types = words(kind, "FrameType") or file.kind
    rescale = _group("PixelValueTransformationSequence", own, shared)
    scaled = len(rescale) > 0 or file.scaling == Scaling()
    world = own if "RealWorldValueMappingSequence" in own else shared
    return replace(
        file,
        index=index,
        frames=frames,
        position=vector(_group("PlanePositionSequence", own, shared), "ImagePositionPatient"),
        row=row,
        column=column,
        spacing=(spacing[0], spacing[1]) if len(spacing) == 2 and min(spacing) > 0 else None,
        thickness=number(measures, "SliceThickness", file.thickness),
        gap=abs(number(measures, "SpacingBetweenSlices", file.gap)),
        component=component_of(types, text(kind, "ComplexImageComponent").upper()),
        kind=types,
        echo=number(_group("MREchoSequence", own, shared), "EffectiveEchoTime", file.echo),
        moment=(
            number(content, "TemporalPositionIndex"),
            number(diffusion, "DiffusionBValue"),
            number(trigger, "NominalCardiacTriggerDelayTime"),
            number(content, "FrameAcquisitionNumber"),
        ),
        scaling=scaling_of(rescale, world, private, info) if scaled else file.scaling,
    )


def _groups(dataset: Dataset) -> tuple[Dataset, ...]:
    return items(dataset, "PerFrameFunctionalGroupsSequence")


def _group(name: str, own: Dataset, shared: Dataset) -> Dataset:
    """Return a functional group of the frame, or the one that all frames share."""
    return first_item(own if name in own else shared, name)


def _philips(own: Dataset, shared: Dataset) -> Dataset:
    """Return the dataset that may hold Philips' scale slope: a private item of the frame."""
    for group in (own, shared):
        if PHILIPS_SCALE_SLOPE in group:
            return group
        if _PHILIPS_PRIVATE_GROUP in group:
            element = group[_PHILIPS_PRIVATE_GROUP]
            if element.VR == "SQ":
                return first_item(group, element.tag)
    return Dataset()
