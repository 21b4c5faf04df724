"""Intensity classes of what no label covers: the surroundings of a labelled structure, seen coarsely."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["CONTEXT_CLASSES", "context_map", "normal_scores", "score_limits", "unlabelled_share"]

CONTEXT_CLASSES = 6
"""Of equal share each, from dark to bright."""
SMOOTHING_VOXELS = 0.7
FOREGROUND = 0.05
"""Least normalised intensity that counts as tissue and not as air."""


def context_map(image: FloatVolume, fov: npt.NDArray[np.bool_], classes: int) -> LabelVolume:
    """Class the voxels of one modality by the rank of their intensity: each class takes an equal share of the scan.

    Ranks, on the lightly smoothed image, say where it is darker and where brighter, and nothing of how dark: that is
    the style's to say. No statistic of the cohort is used.

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
    limits = np.quantile(smooth[fov], np.arange(1, classes) / classes)
    return np.where(fov, np.digitize(smooth, limits), 0).astype(np.uint8)


def normal_scores(classes: int) -> npt.NDArray[np.float32]:
    """Return the mean of a standard normal within each of (K,) classes of equal share, darkest first."""
    limits = stats.norm.ppf(np.arange(classes + 1) / classes)
    scores: npt.NDArray[np.float32] = (classes * -np.diff(stats.norm.pdf(limits))).astype(np.float32)
    return scores


def score_limits(classes: int) -> npt.NDArray[np.float32]:
    """Return the (K − 1,) normal scores between (K,) classes of equal share."""
    limits: npt.NDArray[np.float32] = stats.norm.ppf(np.arange(1, classes) / classes).astype(np.float32)
    return limits


def unlabelled_share(image: FloatVolume, label: LabelVolume) -> float:
    """Return the share of tissue voxels of (X, Y, Z) `image` that `label` leaves at 0; 0 if there is no tissue."""
    tissue = image > FOREGROUND
    total = int(tissue.sum())
    return float((tissue & (label == 0)).sum() / total) if total else 0.0
