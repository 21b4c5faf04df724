"""DICOM files in, volumes with their geometry out. Zone: private."""

from __future__ import annotations

from anonsynth.cohort.dicom.find import find_dicom

__all__ = ["find_dicom"]
