"""Intensity classes of what no label covers: the surroundings of a labelled structure, seen coarsely."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["CONTEXT_CLASSES", "context_map", "unlabelled_share"]

CONTEXT_CLASSES = 3
"""Dark, middle and bright surroundings."""
SMOOTHING_VOXELS = 1.0
FOREGROUND = 0.05
"""Least normalised intensity that counts as tissue and not as air."""


def context_map(image: FloatVolume, fov: npt.NDArray[np.bool_], classes: int) -> LabelVolume:
    """Class the voxels of one modality by intensity, with thresholds of this scan alone.

    Thresholds are those of Otsu 1979 for several classes (Liao et al. 2001), on the smoothed image. No statistic of
    the cohort is used.

    Args:
        image: (X, Y, Z) in [0, 1].
        fov: (X, Y, Z) bool; outside it the result is 0.
        classes: Number of classes; with 1 everything is class 0.

    Returns:
        (X, Y, Z) uint8, 0 (darkest) to classes − 1.
    """
    if classes == 1 or not fov.any():
        return np.zeros(image.shape, np.uint8)
    smooth = ndimage.gaussian_filter(image, SMOOTHING_VOXELS)
    values = smooth[fov]
    try:
        thresholds = threshold_multiotsu(values, classes=classes, nbins=128)
    except ValueError:  # fewer distinct intensities than classes
        thresholds = np.quantile(values, np.arange(1, classes) / classes)
    return np.where(fov, np.digitize(smooth, thresholds), 0).astype(np.uint8)


def unlabelled_share(image: FloatVolume, label: LabelVolume) -> float:
    """Return the share of tissue voxels of (X, Y, Z) `image` that `label` leaves at 0; 0 if there is no tissue."""
    tissue = image > FOREGROUND
    total = int(tissue.sum())
    return float((tissue & (label == 0)).sum() / total) if total else 0.0
