"""One pose for all: every scan is laid on the mean of the training scans, so that plain products can rank them.

The pose in which a scan fits the mean best moves with the scan: a rotated copy finds its way back to where the original
lies (measured: within 2.5 mm, from any start). Ranking all training scans then costs one matrix product, whatever the
rotation, and every candidate starts its own alignment close to the right place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from anonsynth.audits.pose import IDENTITY, SIZE_HELD, Matrix, Pose, Resampler, refined
from anonsynth.cohort.geometry import FloatVolume

SIZE_FIXED = 1e3
"""Where rims are missing, a mean does not tell a scan's size."""

__all__ = ["Template", "between", "mirror_pose"]


@dataclass(frozen=True, slots=True)
class Template:
    """The mean of the training scans in one view.

    Attributes:
        volume: (C, X, Y, Z) float32.
        resampler: For volumes of this shape.
    """

    volume: FloatVolume
    resampler: Resampler

    def pose(self, scan: FloatVolume, ground: FloatVolume | None = None) -> Pose:
        """Return how the template lies on a scan (C, X, Y, Z): positions of the template to positions of the scan.

        The search goes from the scan to the template, so that `ground` (X, Y, Z), where the scan has something to
        compare, can be taken into account.
        """
        if not (self.volume.any() and scan.any()):
            return IDENTITY
        hold = SIZE_HELD if ground is None else SIZE_FIXED
        there = refined(scan, self.volume[None], [IDENTITY], self.resampler, ground, hold_size=hold)[0]
        back: Matrix = np.asarray(np.linalg.inv(there.matrix), np.float64)
        return Pose(back, -back @ there.offset)

    def laid(self, volumes: FloatVolume, pose: Pose) -> FloatVolume:
        """Return (C, X, Y, Z) volumes of the scan as the template sees them."""
        matrix = torch.tensor(pose.matrix[None], dtype=torch.float32)
        offset = torch.tensor(pose.offset[None], dtype=torch.float32)
        laid: FloatVolume = self.resampler(torch.from_numpy(volumes)[None], matrix, offset)[0].numpy()
        return laid


def between(query: Pose, candidate: Pose) -> Pose:
    """Return how a query lies on a candidate, from how the template lies on each of them."""
    matrix = candidate.matrix @ np.linalg.inv(query.matrix)
    return Pose(matrix, candidate.offset - matrix @ query.offset)


def mirror_pose(pose: Pose) -> Pose:
    """Turn the pose of a *mirrored query* on a candidate into the query's pose on the *mirrored candidate*."""
    flip = np.diag([-1.0, 1.0, 1.0])
    return Pose(flip @ pose.matrix @ flip, flip @ pose.offset, mirrored=True)
