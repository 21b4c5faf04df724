"""What is no volume of anatomy, by what the header says of itself: one sentence and one remedy for each kind."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import uid

from anonsynth.cohort.dicom.contrast import tokens
from anonsynth.cohort.dicom.header import Component, Frame, SeriesInfo
from anonsynth.cohort.dicom.stacks import orientations
from anonsynth.cohort.dicom.vocabulary import LOCALISER, MAPS

__all__ = ["FEWEST_SLICES", "Verdict", "not_mr", "part_verdict", "series_verdict"]

Verdict = tuple[str, str]
"""Reason and remedy."""

FEWEST_SLICES = 3
"""Fewer slices than this are no volume."""
_LOCALISER_SLICES = 30
"""A localiser has no more slices than this."""
_LOCALISER_SHARE = 0.75
"""No orientation of a localiser has more than this share of its slices; a stray slice is something else."""

_NOTHING = "nothing to do, unless the original series is missing"
_MR = {uid.MRImageStorage, uid.EnhancedMRImageStorage, uid.LegacyConvertedEnhancedMRImageStorage}
_KINDS: dict[str, str] = {
    uid.EnhancedMRColorImageStorage: "a colour image",
    uid.MRSpectroscopyStorage: "spectroscopy, not an image",
    uid.RawDataStorage: "raw data, not an image",
    uid.SegmentationStorage: "a segmentation object",
    uid.SurfaceSegmentationStorage: "a surface segmentation",
    uid.ParametricMapStorage: "a parametric map",
    uid.EncapsulatedPDFStorage: "a report (PDF), not an image",
    uid.EncapsulatedCDAStorage: "a report, not an image",
    uid.KeyObjectSelectionDocumentStorage: "a list of key images, not an image",
}
# SOP classes come in families; the family's UID root or a word of its name tells.
_FAMILIES = (
    ("1.2.840.10008.5.1.4.1.1.7", "a secondary capture (a screenshot or a scanned page), not an acquisition"),
    ("1.2.840.10008.5.1.4.1.1.88", "a structured report, not an image"),
    ("1.2.840.10008.5.1.4.1.1.11", "a presentation state, not an image"),
    ("1.2.840.10008.5.1.4.1.1.481", "a radiotherapy object, not an MR image"),
    ("1.2.840.10008.5.1.4.1.1.9", "a waveform, not an image"),
)
_MODALITIES = frozenset({"CT", "PT", "NM", "US", "CR", "DX", "XA", "MG", "RF", "ES", "OP", "SM", "OT"})


def series_verdict(info: SeriesInfo, frames: Sequence[Frame]) -> Verdict | None:
    """Return why no part of a series can be used, if so."""
    kind = not_mr(info)
    if kind:
        is_segmentation = info.sop_class == uid.SegmentationStorage
        return kind, "give label maps as NIfTI with --labels" if is_segmentation else _NOTHING
    if _is_localiser(info, frames):
        return "a localiser", _NOTHING
    return None


def part_verdict(frame: Frame) -> Verdict | None:
    """Return why the part that `frame` stands for cannot be used, by ImageType and the like."""
    if frame.samples != 1:
        return "a colour image", _NOTHING
    if "MOSAIC" in frame.kind or "VFRAME" in frame.kind:
        return "a mosaic: all slices of a volume in one image, as functional series have", _NOTHING
    if frame.component is Component.PHASE:
        return "a phase image", _NOTHING
    if frame.component is not Component.MAGNITUDE:
        return f"the {frame.component} of a complex image, not its magnitude", "send the magnitude images"
    names = {name.replace(" ", "_") for name in frame.kind}
    if names & MAPS:
        return "a derived map or projection, not an acquired image", _NOTHING
    return None


def not_mr(info: SeriesInfo) -> str:
    """Return what a series is if it is no MR image, else ""."""
    if info.sop_class in _KINDS:
        return _KINDS[info.sop_class]
    for root, kind in _FAMILIES:
        if info.sop_class == root or info.sop_class.startswith(root + "."):
            return kind
    if info.sop_class in _MR and info.modality in {"", "MR"}:
        return ""
    return f"a {info.modality} series, not MR" if info.modality in _MODALITIES else "not an MR image"


def _is_localiser(info: SeriesInfo, frames: Sequence[Frame]) -> bool:
    if any("LOCALIZER" in frame.kind for frame in frames):
        return True
    if len(frames) <= _LOCALISER_SLICES and tokens(info.description) & LOCALISER:
        return True
    if len(frames) > _LOCALISER_SLICES:
        return False
    facing = orientations(frames)
    return len(facing) > 1 and max(facing) <= _LOCALISER_SHARE * len(frames)
