"""A second acquisition of a patient, simulated: what an attacker would hold who has another scan of the same person.

Same anatomy, other everything: gamma and gain of each modality, a smooth bias field, a shift of a fraction of a voxel
(with the blur that reading between voxels brings) and white noise. Label maps are not used.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from anonsynth.anatomy.fields import smooth_field
from anonsynth.cohort.store import Scan

__all__ = ["second_acquisition"]

GAMMA = 0.15
"""Gamma is drawn from exp(±GAMMA)."""
BIAS = 0.1
BIAS_WIDTH = 0.3
"""One standard deviation of the bias field, and its width as a share of each axis."""
SHIFT = 0.7
"""Largest shift along each axis, voxels."""
NOISE_DB = 20.0
"""Signal over noise, standard deviations."""


def second_acquisition(scan: Scan, rng: np.random.Generator) -> Scan:
    """Return the scan as if it had been acquired again; outside the body it stays 0."""
    move = rng.uniform(-SHIFT, SHIFT, 3)
    image = np.zeros_like(scan.image)
    for channel, source in enumerate(scan.image):
        if not scan.present[channel] or not source.any():
            continue
        gamma = np.exp(rng.uniform(-GAMMA, GAMMA))
        bias = np.exp(BIAS * smooth_field(source.shape, [n * BIAS_WIDTH for n in source.shape], rng))
        moved = ndimage.shift(np.abs(source) ** np.float32(gamma) * bias, move, order=1, mode="constant")
        inside = moved > 0
        noise = rng.standard_normal(source.shape, dtype=np.float32) * moved[inside].std() * 10 ** (-NOISE_DB / 20)
        image[channel] = np.where(inside, np.maximum(moved + noise, np.finfo(np.float32).tiny), 0)
    return replace(scan, image=image)
