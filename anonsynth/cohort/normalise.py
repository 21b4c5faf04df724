"""Intensities to [0, 1] from the scan itself: no statistic of the cohort is read, so none has to be paid for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from anonsynth.cohort.geometry import FloatVolume
from anonsynth.errors import InputError

__all__ = ["normalise"]

PERCENTILES = (0.5, 99.5)


def normalise(array: npt.NDArray[np.generic], foreground: npt.NDArray[np.bool_], path: Path) -> FloatVolume:
    """Map the foreground's 0.5th and 99.5th percentile to 0 and 1, clip; what is not body becomes 0.

    Args:
        array: (X, Y, Z) intensities of any range and sign.
        foreground: (X, Y, Z) bool, the body.
        path: The file; private.

    Returns:
        (X, Y, Z) float32 in [0, 1].

    Raises:
        InputError: If the foreground has no contrast.
    """
    values = array.astype(np.float32)
    low, high = (float(value) for value in np.percentile(values[foreground], PERCENTILES))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low) or not high > low:
        raise InputError("the image has no contrast", remedy="export it again", private_path=path)
    values -= np.float32(low)
    values /= np.float32(high - low)
    np.clip(values, 0.0, 1.0, out=values)
    values[~foreground] = 0.0
    return values
