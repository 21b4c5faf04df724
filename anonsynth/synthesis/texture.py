"""Texture: variation over a few voxels within a tissue, as strong and as wide as real scans show it.

A network that is taught to come close to a scan leaves out what it cannot foretell, so tissues come out too even. What
is missing is measured as a difference of autocovariances, at distances of one voxel to six, and added as Gaussian
random fields of two widths (`anatomy/random_field.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from anonsynth.anatomy.random_field import field_variances, widths_in_voxels

__all__ = ["WIDTHS", "Texture", "missing_texture"]

WIDTHS = (0.8, 2.0)
"""Widths of the random fields, in voxels of the finest spacing."""

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
        self.width.copy_(torch.tensor(widths_in_voxels(WIDTHS, spacing)))

    def forward(self, one_hot: Tensor, source: torch.Generator) -> Tensor:
        """Draw texture (B, C, X, Y, Z) for (B, K, X, Y, Z), in units of intensity, 0 outside the field of view."""
        batch, _, *size = one_hot.shape
        total = one_hot.new_zeros(batch, self.strength.shape[1], *size)
        for strength, width in zip(self.strength, self.width.tolist(), strict=True):
            # Drawn on the CPU so that a seed gives the same scan on every device.
            noise = torch.randn(batch, len(strength), *size, generator=source).to(one_hot)
            total += _blurred(noise, width) * torch.einsum("ck,bkxyz->bcxyz", strength, one_hot)
        return total


def missing_texture(real: npt.NDArray[np.float64], generated: npt.NDArray[np.float64]) -> Floats:
    """Return the strength (W, K) of the fields that bring generated autocovariances nearest to the real ones.

    Least squares in the autocovariance with no field of negative variance: texture is added, never taken away.

    Args:
        real: (2, K, LAGS + 1) of `autocovariance`, summed over scans.
        generated: The same.
    """
    covariance = [sums / np.maximum(pairs, 1) for sums, pairs in (real, generated)]
    gap = np.where((real[1] > 0) & (generated[1] > 0), covariance[0] - covariance[1], 0)
    return np.sqrt(field_variances(gap, WIDTHS).T).astype(np.float32)


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
