"""What the voxels themselves must satisfy, whatever format they came in."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from anonsynth.cohort.geometry import LabelVolume
from anonsynth.cohort.sources import RawVolume
from anonsynth.errors import InputError

__all__ = ["check_image", "check_label"]

MAX_LABEL = 255


def check_image(raw: RawVolume, path: Path) -> None:
    """Refuse an image without contrast or with voxels that are no numbers.

    Raises:
        InputError: If a voxel is NaN or infinite, or all voxels are equal.
    """
    _check_finite(raw, path)
    if raw.array.min() == raw.array.max():
        raise InputError("all voxels have the same value", remedy="export the image again", private_path=path)


def check_label(raw: RawVolume, path: Path, known: Collection[int]) -> LabelVolume:
    """Return the label map as (X, Y, Z) uint8.

    Args:
        raw: The volume as its file has it.
        path: Its file; private.
        known: Values of the source's lookup table; empty if it has none.

    Raises:
        InputError: If a value is fractional, negative, above 255, or missing from the lookup table.
    """
    _check_finite(raw, path)
    values = np.unique(raw.array)
    if (values != np.floor(values)).any():
        remedy = "give the label map as it was drawn, not resampled with interpolation"
        raise InputError("the label map has fractional values", remedy=remedy, private_path=path)
    if values[0] < 0:
        raise InputError("the label map has negative values", remedy="number labels from 1 to 255", private_path=path)
    if values[-1] > MAX_LABEL:
        raise InputError("the label map has values above 255", remedy="number labels from 1 to 255", private_path=path)
    unknown = sorted({int(value) for value in values} - {0} - set(known)) if known else []
    if unknown:
        reason = f"the label map has a value ({unknown[0]}) that the lookup table does not name"
        raise InputError(reason, remedy="add it to the lookup table or correct the label map", private_path=path)
    return raw.array.astype(np.uint8)


def _check_finite(raw: RawVolume, path: Path) -> None:
    if np.issubdtype(raw.array.dtype, np.floating) and not np.isfinite(raw.array).all():
        remedy = "replace NaN and infinite voxels with the background's value"
        raise InputError("voxels are NaN or infinite", remedy=remedy, private_path=path)
