"""Random disguises of scans: what a network must see through that shall know a copy of a patient again.

They are the ways in which `planted` hides a copy, drawn anew every time, at lower resolution and by code of its own:
another position, another shape, another contrast, a bias field, noise, blur, a missing modality, and somebody else's
tissue around a part.

Volumes are (B, C, X, Y, Z) float32 tensors, every modality of mean 0 and standard deviation about 1, and 0 outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from anonsynth.audits.pose import Resampler, smoothed

__all__ = ["Disguises", "standardised"]

TURN = 0.12
"""Largest rotation, radians: what is left of it once a scan lies on the template."""
SHIFT = 0.06
"""Largest shift as a share of the volume's mean width."""
LOG_SCALE = 0.1
BEND = 0.05
"""Largest standard deviation of the displacement along each axis, as a share of the volume's mean width."""
WIDE, NARROW = 4, 7
"""Lattice points along an axis between which displacements and bias are drawn: shape and lobes."""
NARROW_SHARE = 0.4
KNOTS = 6
"""Points of an intensity curve, equally far apart."""
REACH = 2.2
"""Standard deviations on either side of the mean that an intensity curve covers."""
REMAPPED = 0.6
LARGEST_BIAS = 0.5
LARGEST_NOISE = 0.4
LEAST_BLUR, LARGEST_BLUR = -0.3, 1.0
"""How far towards the blurred volume; below 0 it is sharpened."""
JOINED = 0.15
"""Probability of being blended with another scan, and of being only a region in another scan."""
LARGEST_BLEND = 0.5
LEAST_REGION, LARGEST_REGION = 0.3, 0.8
DROPPED = 0.15
SOFT_EDGE = 0.12


@dataclass(frozen=True)
class Disguises:
    """Draws disguises for volumes of one shape.

    Attributes:
        resampler: Reads volumes at moved positions.
        source: Where all randomness comes from.
    """

    resampler: Resampler
    source: torch.Generator

    def __call__(self, volumes: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
        """Return each volume in a disguise of its own, laid on the template.

        Args:
            volumes: (B, C, X, Y, Z).
            matrices: (B, 3, 3) how the template lies on each, as in `pose.Pose`.
            offsets: (B, 3) likewise, mm.
        """
        body = (volumes != 0).any(1, keepdim=True).float()
        moved = self.resampler.at(torch.cat([volumes, body], 1), self._positions(matrices, offsets))
        inside = (moved[:, -1:] > 0.5).float()
        seen = standardised(self._contrast(moved[:, :-1], inside), inside)
        joined = self._joined(seen)
        inside = (joined != 0).any(1, keepdim=True).float()
        return standardised(self._dropped(self._noisy(joined)), inside)

    def mirrored(self, volumes: Tensor) -> Tensor:
        """Return the volumes, half of them reversed along the left-right axis."""
        return torch.where(self._chance(len(volumes), 0.5), volumes.flip(2), volumes)

    def _positions(self, matrices: Tensor, offsets: Tensor) -> Tensor:
        """Draw where each voxel is read: (B, 3, X, Y, Z) mm."""
        count, width = len(matrices), self._width()
        x, y, z = (self._direction(count) * self._uniform((count, 1), 0, TURN)).unbind(1)
        zero = torch.zeros(count)
        turn = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
        size = torch.exp(self._uniform((count, 1, 1), -LOG_SCALE, LOG_SCALE))
        side = torch.where(self._uniform((count,), 0, 1) < 0.5, -1.0, 1.0)
        flip = torch.diag_embed(torch.stack([side, torch.ones(count), torch.ones(count)], 1))
        shift = self._direction(count) * self._uniform((count, 1), 0, SHIFT * width)
        at = self.resampler.moved(torch.linalg.matrix_exp(turn) * size @ flip, shift)
        much = self._uniform((count, 1, 1, 1, 1), 0, BEND * width)
        at = at + much * self._field(count, 3, WIDE) + NARROW_SHARE * much * self._field(count, 3, NARROW)
        return (matrices @ at.flatten(2) + offsets[:, :, None]).reshape(at.shape)

    def _contrast(self, volumes: Tensor, inside: Tensor) -> Tensor:
        """Send each modality through a curve of its own, and lay a bias field over it."""
        count, modalities = volumes.shape[:2]
        spread = (
            volumes.square().sum((2, 3, 4), keepdim=True) / inside.sum((2, 3, 4), keepdim=True).clamp(min=1)
        ).sqrt()
        level = (volumes / spread.clamp(min=1e-6) / REACH + 1) / 2
        place = level.clamp(0, 1) * (KNOTS - 1)
        left = place.floor().clamp(max=KNOTS - 2)
        heights = self._curves(count, modalities)
        index = left.long().flatten(2)
        low, high = torch.gather(heights, 2, index), torch.gather(heights, 2, index + 1)
        curved = (low + (high - low) * (place - left).flatten(2)).reshape(volumes.shape)
        chosen = torch.where(self._chance(count, REMAPPED), curved, level.clamp(min=0))
        bias = self._uniform((count, 1, 1, 1, 1), 0, LARGEST_BIAS) * self._field(count, modalities, WIDE)
        # A modality that is missing stays so.
        return chosen * torch.exp(bias) * inside * (spread > 0)

    def _curves(self, count: int, modalities: int) -> Tensor:
        """Draw (B, C, KNOTS) heights: a power, any rising, any falling or any curve at all."""
        steps = self._uniform((count, modalities, KNOTS), 0, 1)
        line = torch.linspace(0, 1, KNOTS).expand_as(steps)
        power = line ** torch.exp(self._uniform((count, modalities, 1), -1, 1))
        rising = torch.cumsum(steps + 0.1, 2)
        rising = rising / rising[:, :, -1:]
        kind = self._uniform((count, modalities, 1), 0, 1)
        falling_or_any = torch.where(kind < 0.6, 1 - rising, steps)
        return torch.where(kind < 0.3, power, torch.where(kind < 0.4, rising, falling_or_any))

    def _joined(self, volumes: Tensor) -> Tensor:
        """Mix some with another volume of the batch: everywhere, or outside an ellipsoid."""
        count = len(volumes)
        other = volumes.roll(1, 0)
        blend = self._uniform((count, 1, 1, 1, 1), 0, LARGEST_BLEND) * self._chance(count, JOINED)
        outside = (1 - self._ellipsoids(count)) * self._chance(count, JOINED)
        share = torch.maximum(blend, outside)
        return volumes * (1 - share) + other * share

    def _ellipsoids(self, count: int) -> Tensor:
        """Draw (B, 1, X, Y, Z) soft ellipsoids in [0, 1] somewhere in the volume."""
        share = self._uniform((count,), LEAST_REGION, LARGEST_REGION)
        radius = (share * 6 / torch.pi) ** (1 / 3)
        centre = self._uniform((count, 3), -1, 1) * (1 - radius).clamp(min=0)[:, None]
        far = torch.zeros(count, *self.resampler.shape)
        for axis, n in enumerate(self.resampler.shape):
            line = (2 * torch.arange(n) + 1) / n - 1
            near = ((line[None] - centre[:, axis, None]) / radius[:, None]).square()
            far = far + near.reshape(count, *(n if axis == other else 1 for other in range(3)))
        return ((1 + SOFT_EDGE - far.sqrt()) / SOFT_EDGE).clamp(0, 1)[:, None]

    def _noisy(self, volumes: Tensor) -> Tensor:
        count = len(volumes)
        blur = self._uniform((count, 1, 1, 1, 1), LEAST_BLUR, LARGEST_BLUR) * self._chance(count, 0.5)
        noise = self._uniform((count, 1, 1, 1, 1), 0, LARGEST_NOISE) * self._chance(count, 0.5)
        blurred = smoothed(volumes, (1.0, 1.0, 1.0))
        return volumes + blur * (blurred - volumes) + noise * torch.randn(volumes.shape, generator=self.source)

    def _dropped(self, volumes: Tensor) -> Tensor:
        """Leave out modalities, never all of a volume."""
        keep = self._uniform((len(volumes), volumes.shape[1]), 0, 1) >= DROPPED
        keep[:, 0] |= ~keep.any(1)
        return volumes * keep[:, :, None, None, None]

    def _field(self, count: int, channels: int, points: int) -> Tensor:
        """Draw (B, channels, X, Y, Z) fields, linear between normal values on a lattice."""
        shape = self.resampler.shape
        field = torch.randn(count, channels, *(min(points, n) for n in shape), generator=self.source)
        for axis, n in enumerate(shape, start=2):
            # A product with a small matrix along each axis: many times faster here than interpolating.
            field = torch.movedim(torch.movedim(field, axis, -1) @ _hats(min(points, n), n), -1, axis)
        return field

    def _width(self) -> float:
        long = [n * s for n, s in zip(self.resampler.shape, self.resampler.spacing, strict=True) if n > 1]
        return sum(long) / max(len(long), 1)

    def _direction(self, count: int) -> Tensor:
        return functional.normalize(torch.randn(count, 3, generator=self.source), dim=1)

    def _chance(self, count: int, probability: float) -> Tensor:
        return self._uniform((count, 1, 1, 1, 1), 0, 1) < probability

    def _uniform(self, shape: Sequence[int], low: float, high: float) -> Tensor:
        return torch.rand(*shape, generator=self.source) * (high - low) + low


def standardised(volumes: Tensor, inside: Tensor) -> Tensor:
    """Bring each modality to mean 0 inside and mean square 1 over the whole volume; 0 outside and where it is flat."""
    size = inside.sum((2, 3, 4), keepdim=True).clamp(min=1)
    centred = (volumes - (volumes * inside).sum((2, 3, 4), keepdim=True) / size) * inside
    square = centred.square().mean((2, 3, 4), keepdim=True)
    return torch.where(square > 1e-8, centred / square.clamp(min=1e-8).sqrt(), torch.zeros(()))


def _hats(few: int, many: int) -> Tensor:
    """Return the (few, many) matrix of linear interpolation, ends on ends."""
    at = torch.linspace(0, few - 1, many) if many > 1 else torch.zeros(1)
    return (1 - (at[None] - torch.arange(few)[:, None]).abs()).clamp(min=0)
