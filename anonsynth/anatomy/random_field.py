"""Gaussian random fields of several widths, and how to measure which of them a volume is made of.

White noise blurred by a Gaussian of width w has the autocovariance exp(−d² / 4w²) at distance d, so the variances of a
sum of such fields follow from measured autocovariances by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize

from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["LAGS", "autocovariance", "field_variances", "widths_in_voxels"]

LAGS = 6
"""Distances at which voxels are compared, in voxels of the finest spacing."""
AS_FINE = 1.1
"""Axes whose spacing is within this factor of the finest count as fine."""

Spacing = tuple[float, float, float]
Floats64 = npt.NDArray[np.float64]


def autocovariance(image: FloatVolume, classes: LabelVolume, count: int, spacing: Spacing) -> Floats64:
    """Return sums and numbers of products of voxel pairs of one class, 0 to LAGS voxels apart: (2, K, LAGS + 1).

    Pairs lie along the axes of the finest spacing; intensities are taken from their class's mean.

    Args:
        image: (X, Y, Z).
        classes: (X, Y, Z) class map.
        count: Number of classes K; class 0, outside the field of view, is not counted.
        spacing: In mm.
    """
    voxels = np.bincount(classes.ravel(), minlength=count)
    means = np.bincount(classes.ravel(), image.ravel(), minlength=count) / np.maximum(voxels, 1)
    rest = image - means[classes]
    result = np.zeros((2, count, LAGS + 1))
    for axis in np.flatnonzero(np.array(spacing) < AS_FINE * min(spacing)):
        one, own = np.moveaxis(rest, axis, 0), np.moveaxis(classes, axis, 0)
        for lag in range(min(LAGS, len(one) - 1) + 1):
            end = len(one) - lag
            same = (own[lag:] == own[:end]) & (own[:end] > 0)
            pairs = own[:end][same]
            result[0, :, lag] += np.bincount(pairs, (one[lag:] * one[:end])[same], minlength=count)
            result[1, :, lag] += np.bincount(pairs, minlength=count)
    return result


def field_variances(covariance: Floats64, widths: Sequence[float]) -> Floats64:
    """Return the variance of each of `widths` whose sum comes nearest to (K, LAGS + 1) autocovariances: (K, W).

    Least squares without negative variances. Distance 0 is left out: it holds white noise as well.
    """
    lags = np.arange(1, LAGS + 1)[:, None]
    basis = np.exp(-(lags**2) / (4 * np.array(widths) ** 2))
    return np.array([optimize.nnls(basis, of_class[1:])[0] for of_class in covariance])


def widths_in_voxels(widths: Sequence[float], spacing: Spacing) -> list[list[float]]:
    """Return the width along each axis, in voxels, of widths that are given in voxels of the finest spacing."""
    return [[width * min(spacing) / step for step in spacing] for width in widths]
