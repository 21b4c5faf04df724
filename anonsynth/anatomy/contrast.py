"""Images of no sequence at all: a random brightness per label, for networks that must work on every contrast.

Domain randomisation as in SynthSeg (Billot et al. 2023, Med Image Anal 86:102789): a network that has seen every
contrast and resolution has no preference for any, and needs no real scan to learn what a label map looks like.
"""

from __future__ import annotations

import numpy as np

from anonsynth.anatomy.fields import resize, smooth_field
from anonsynth.anatomy.scanner import bias_field, blurred
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume

__all__ = ["random_contrast"]

_VALUES = 256
_DARK_BACKGROUND = 0.7
_THICK_SLICES = 0.25


def random_contrast(label: LabelVolume, grid: Grid, rng: np.random.Generator) -> FloatVolume:
    """Draw an image of a label map: brightness, texture, resolution, bias, gamma and noise are all random.

    Args:
        label: (X, Y, Z) label values.
        grid: Its grid; only the spacing is used.
        rng: Where the randomness comes from.

    Returns:
        (X, Y, Z) float32 in 0..1.
    """
    image = _painted(label, rng)
    image = _at_resolution(image, rng)
    image *= bias_field(image.shape, grid.spacing, float(rng.uniform(0, 0.25)), rng)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = np.abs(image + np.float32(rng.uniform(0.002, 0.06)) * noise)
    low, high = (float(value) for value in np.percentile(image[::2, ::2], (0.1, 99.8)))
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    randomised: FloatVolume = image ** np.float32(np.exp(rng.normal(0, 0.3)))
    return randomised


def _painted(label: LabelVolume, rng: np.random.Generator) -> FloatVolume:
    """Return a mean and a texture per label, with soft edges."""
    means = rng.uniform(0.05, 1.0, _VALUES).astype(np.float32)
    spreads = (rng.uniform(0.01, 0.1, _VALUES) * rng.choice([0.3, 1.0], _VALUES)).astype(np.float32)
    if rng.random() < _DARK_BACKGROUND:
        means[0] = spreads[0] = 0.0
    fine = rng.standard_normal(label.shape, dtype=np.float32)
    texture = 0.5 * fine + 0.9 * smooth_field(label.shape, [float(rng.uniform(1.2, 5.0))] * 3, rng)
    edge = float(rng.uniform(0.2, 0.5))
    return blurred(means[label] + spreads[label] * texture, (edge, edge, edge))


def _at_resolution(image: FloatVolume, rng: np.random.Generator) -> FloatVolume:
    """Return the image as if acquired with larger voxels: thick slices along one axis, or all a little larger."""
    factors = rng.uniform(1.0, 1.3, 3)
    if rng.random() < _THICK_SLICES:
        factors[rng.integers(3)] = rng.uniform(1.5, 3.0)
    shape = [max(2, round(n / factor)) if n > 1 else 1 for n, factor in zip(image.shape, factors, strict=True)]
    soft = blurred(image, [0.35 * (factor - 1) for factor in factors])
    return resize(resize(soft, shape), image.shape)
