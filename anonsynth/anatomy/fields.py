"""Smooth random fields: the raw material of warps, folds, tumours, texture and bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from scipy import ndimage

from anonsynth.cohort.geometry import FloatVolume

__all__ = ["multiscale_field", "resize", "sigmoid", "smooth_field"]

_LATTICE_SIGMA = 1.5
"""Standard deviation of the filter on the coarse lattice, in lattice steps: linear upsampling then shows no facets."""


def resize(volume: FloatVolume, shape: Sequence[int]) -> FloatVolume:
    """Return (X, Y, Z) resampled linearly to `shape`, corners on corners."""
    if tuple(volume.shape) == tuple(shape):
        return volume
    source = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
    resized = functional.interpolate(source, size=tuple(shape), mode="trilinear", align_corners=True)
    array: FloatVolume = resized[0, 0].numpy()
    return array


def smooth_field(shape: Sequence[int], sigma: Sequence[float], rng: np.random.Generator) -> FloatVolume:
    """Return a Gaussian random field of mean 0 and standard deviation 1.

    The noise is filtered on a lattice as coarse as the filter allows, so that wide fields cost next to nothing.

    Args:
        shape: (X, Y, Z) voxels.
        sigma: Standard deviation of the Gaussian filter along each axis, voxels.
        rng: Where the randomness comes from.
    """
    steps = [max(1.0, width / _LATTICE_SIGMA) for width in sigma]
    coarse = [max(2, round((n - 1) / step) + 1) for n, step in zip(shape, steps, strict=True)]
    widths = [width * (m - 1) / max(1, n - 1) for width, n, m in zip(sigma, shape, coarse, strict=True)]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    field = resize(ndimage.gaussian_filter(noise, widths, mode="wrap", truncate=3.0), shape)
    spread = float(field.std())
    scaled: FloatVolume = ((field - field.mean()) / max(spread, 1e-6)).astype(np.float32)
    return scaled


def multiscale_field(
    shape: Sequence[int],
    spacing: Sequence[float],
    scales: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> FloatVolume:
    """Return the weighted sum of smooth fields, scaled to standard deviation 1.

    Args:
        shape: (X, Y, Z) voxels.
        spacing: Voxel size, mm.
        scales: (filter's standard deviation in mm, weight) of each part.
        rng: Where the randomness comes from.
    """
    total = np.zeros(tuple(shape), np.float32)
    for sigma, weight in scales:
        total += np.float32(weight) * smooth_field(shape, [sigma / step for step in spacing], rng)
    total /= np.float32(max(float(total.std()), 1e-6))
    return total


def sigmoid(values: npt.NDArray[np.floating]) -> FloatVolume:
    """Return the logistic function, 0 to 1, without overflow."""
    array: FloatVolume = torch.sigmoid(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))).numpy()
    return array
