"""What a scanner does to an image: receive bias, blur, noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from anonsynth.anatomy.fields import smooth_field
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["bias_field", "blurred", "rician"]


def bias_field(
    shape: Sequence[int], spacing: Sequence[float], strength: float, rng: np.random.Generator
) -> FloatVolume:
    """Return a smooth multiplicative field with relative standard deviation `strength`; width about 45 mm."""
    field = smooth_field(shape, [45.0 / step for step in spacing], rng)
    bias: FloatVolume = np.exp(np.float32(strength) * field)
    return bias


def blurred(image: FloatVolume, sigma: Sequence[float]) -> FloatVolume:
    """Return the image filtered with a Gaussian of `sigma` voxels along each axis."""
    result: FloatVolume = ndimage.gaussian_filter(image, list(sigma), truncate=3.0)
    return result


def rician(image: FloatVolume, sigma: float, rng: np.random.Generator) -> FloatVolume:
    """Return the magnitude of the image with complex Gaussian noise (Gudbjartsson and Patz 1995, MRM 34:910-914)."""
    real = image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    magnitude: FloatVolume = np.hypot(real, imaginary)
    return magnitude
