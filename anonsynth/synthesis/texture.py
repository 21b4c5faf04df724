"""Texture: variation over a few voxels within a tissue, as strong and as wide as real scans show it.

A network that is taught to come close to a scan leaves out what it cannot foretell, so tissues come out too even. What
is missing is measured as a difference of autocovariances, at distances of one voxel to six, and added as Gaussian
random fields of two widths. White noise blurred by a Gaussian of width w has the autocovariance exp(−d² / 4w²).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize
from torch import Tensor, nn
from torch.nn import functional

from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["LAGS", "WIDTHS", "Texture", "autocovariance", "missing_texture"]

WIDTHS = (0.8, 2.0)
"""Widths of the random fields, in voxels of the finest spacing."""
LAGS = 6
"""Distances at which scans are compared, in voxels; distance 0 is left to the grain."""
IN_PLANE = 1.1
"""Axes whose spacing is within this factor of the finest count as fine."""

Floats = npt.NDArray[np.float32]


class Texture(nn.Module):
    """Random fields, each of a strength that belongs to a class and a modality; nothing until `take` was called.

    Args:
        classes: Channels of the one-hot class map.
        modalities: Channels out.
    """

    strength: Tensor
    width: Tensor

    def __init__(self, classes: int, modalities: int) -> None:
        super().__init__()
        self.register_buffer("strength", torch.zeros(len(WIDTHS), modalities, classes))
        self.register_buffer("width", torch.ones(len(WIDTHS), 3))

    def take(self, strength: Floats, spacing: tuple[float, float, float]) -> None:
        """Add fields of `strength` (W, C, K), in units of intensity, on a grid of `spacing` in mm from now on."""
        self.strength.copy_(torch.from_numpy(strength))
        finest = min(spacing)
        widths = [[width * finest / step for step in spacing] for width in WIDTHS]
        self.width.copy_(torch.tensor(widths))

    def forward(self, one_hot: Tensor, source: torch.Generator) -> Tensor:
        """Draw texture (B, C, X, Y, Z) for (B, K, X, Y, Z), in units of intensity, 0 outside the field of view."""
        batch, _, *size = one_hot.shape
        total = one_hot.new_zeros(batch, self.strength.shape[1], *size)
        for strength, width in zip(self.strength, self.width.tolist(), strict=True):
            # Drawn on the CPU so that a seed gives the same scan on every device.
            noise = torch.randn(batch, len(strength), *size, generator=source).to(one_hot)
            total += _blurred(noise, width) * torch.einsum("ck,bkxyz->bcxyz", strength, one_hot)
        return total


def autocovariance(
    image: FloatVolume, classes: LabelVolume, count: int, spacing: tuple[float, float, float]
) -> npt.NDArray[np.float64]:
    """Return sums and numbers of products of voxel pairs of one class, LAGS + 1 distances apart: (2, K, LAGS + 1).

    Pairs lie along the axes of the finest spacing; intensities are taken from their class's mean.

    Args:
        image: (X, Y, Z) in [0, 1].
        classes: (X, Y, Z) class map.
        count: Number of classes K; class 0, outside the field of view, is not counted.
        spacing: In mm.
    """
    voxels = np.bincount(classes.ravel(), minlength=count)
    means = np.bincount(classes.ravel(), image.ravel(), minlength=count) / np.maximum(voxels, 1)
    rest = image - means[classes]
    result = np.zeros((2, count, LAGS + 1))
    for axis in np.flatnonzero(np.array(spacing) < IN_PLANE * min(spacing)):
        one, own = np.moveaxis(rest, axis, 0), np.moveaxis(classes, axis, 0)
        for lag in range(min(LAGS, len(one) - 1) + 1):
            end = len(one) - lag
            same = (own[lag:] == own[:end]) & (own[:end] > 0)
            pairs = own[:end][same]
            products = (one[lag:] * one[:end])[same]
            result[0, :, lag] += np.bincount(pairs, products, minlength=count)
            result[1, :, lag] += np.bincount(pairs, minlength=count)
    return result


def missing_texture(real: npt.NDArray[np.float64], generated: npt.NDArray[np.float64]) -> Floats:
    """Return the strength (W, K) of the fields that bring generated autocovariances nearest to the real ones.

    Least squares in the autocovariance with no field of negative variance: texture is added, never taken away.

    Args:
        real: (2, K, LAGS + 1) of `autocovariance`, summed over scans.
        generated: The same.
    """
    covariance = [sums / np.maximum(pairs, 1) for sums, pairs in (real, generated)]
    gap = np.where((real[1] > 0) & (generated[1] > 0), covariance[0] - covariance[1], 0)
    lags = np.arange(1, LAGS + 1)[:, None]
    basis = np.exp(-(lags**2) / (4 * np.array(WIDTHS) ** 2))
    variances = [optimize.nnls(basis, of_class[1:])[0] for of_class in gap]
    return np.sqrt(np.array(variances).T).astype(np.float32)


def _blurred(noise: Tensor, width: list[float]) -> Tensor:
    """Blur white noise (B, C, X, Y, Z) by a Gaussian of `width` voxels an axis; its deviation is 1 again afterwards."""
    channels = noise.shape[1]
    for axis, sigma in enumerate(width):
        reach = max(1, round(3 * sigma))
        steps = torch.arange(-reach, reach + 1, dtype=noise.dtype, device=noise.device)
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        kernel = kernel / kernel.square().sum().sqrt()
        shape, pad = [1, 1, 1], [0, 0, 0]
        shape[axis], pad[axis] = len(kernel), reach
        kernel = kernel.reshape(1, 1, *shape).expand(channels, 1, *shape)
        power = functional.conv3d(torch.ones_like(noise[:1]), kernel.square(), padding=pad, groups=channels)
        # Near the faces of the grid fewer voxels take part; `power` makes up for it.
        noise = functional.conv3d(noise, kernel, padding=pad, groups=channels) / power.sqrt()
    return noise
