"""The rim: how bright a labelled structure and what lies next to it are on average, by depth and by side.

People take part of the white rind above a hippocampus into its label and cut sharply below it; its middle is darker
than its border. A translator that is trained for a few hundred steps learns the tissues and not such faint rules, which
hold for every scan and tell a segmenter where the label ends. So they are measured: intensities as a piecewise linear
function of the depth below the border, one for each side that the border faces, by least squares over whole scans.

Zone: spending.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.cohort.geometry import FloatVolume

__all__ = ["KNOTS", "SIDES", "RimFit", "rim_volume"]

SIDES = 6
"""Down and up each axis of the grid."""
KNOTS = (-5.5, -4.5, -3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 5.0)
"""Depths in voxels, below 0 outside the labels; from the second on each has a value, at the first the rim is 0."""
NORMAL_SMOOTHING = 1.5
"""Smoothing of the depth, in voxels, before it says where the border faces."""
DAMPING = 1e-3
"""Keeps sides and depths that hardly occur near 0 (ridge regression), as a share of the mean weight."""

_CELLS = SIDES * (len(KNOTS) - 1)
_AT_ONCE = 65_536
"""Voxels that are summed up at once, so that memory does not grow with the grid."""

Floats64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass
class RimFit:
    """Sums up scans of one modality; their rim is what `solve` returns.

    Attributes:
        scans: How many were added.
    """

    scans: int = 0
    _weights: Floats64 = field(default_factory=lambda: np.zeros((_CELLS, _CELLS)))
    _values: Floats64 = field(default_factory=lambda: np.zeros(_CELLS))

    def add(self, image: FloatVolume, labelled: Mask, fov: Mask) -> None:
        """Add a scan (X, Y, Z) with its labels and field of view; intensities count from the labels' median."""
        if not labelled.any():
            return
        depth, facing = _depth_and_facing(labelled)
        use = fov & (depth > KNOTS[0]) & (facing.sum(0) > 0)
        depth, facing = depth[use], facing[:, use]
        above = image[use] - np.median(image[labelled])
        for start in range(0, len(depth), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            table = _table(depth[some], facing[:, some])
            self._weights += table @ table.T
            self._values += table @ above[some]
        self.scans += 1

    def solve(self) -> Floats64:
        """Return the rim (SIDES, len(KNOTS) − 1), in units of intensity above the labels' median."""
        damping = DAMPING * float(np.trace(self._weights)) / _CELLS
        if damping == 0:
            return np.zeros((SIDES, len(KNOTS) - 1))
        solution = np.linalg.solve(self._weights + damping * np.eye(_CELLS), self._values)
        return np.asarray(solution, np.float64).reshape(SIDES, -1)


def rim_volume(labelled: Mask, rims: npt.NDArray[np.floating]) -> FloatVolume:
    """Spread rims (C, SIDES, len(KNOTS) − 1) over a grid: (C, X, Y, Z), 0 far outside the labels (X, Y, Z)."""
    volume = np.zeros((len(rims), *labelled.shape), np.float32)
    if not labelled.any() or not np.any(rims):
        return volume
    depth, facing = _depth_and_facing(labelled)
    knot, share = _between_knots(depth)
    # Values at the knots, with the 0 that they start from.
    padded = np.pad(rims, ((0, 0), (0, 0), (1, 0)))
    for channel, of_sides in zip(volume, padded, strict=True):
        for side, values in zip(facing, of_sides, strict=True):
            channel += side * (values[knot] * (1 - share) + values[knot + 1] * share)
    return volume


def _table(depth: Floats64, facing: Floats64) -> Floats64:
    """Return what each side and knot has to do with each of V voxels: (_CELLS, V)."""
    knot, share = _between_knots(depth)
    voxels = np.arange(len(depth))
    table = np.zeros((SIDES, len(KNOTS), len(voxels)))
    for row, side in zip(table, facing, strict=True):
        row[knot, voxels] = side * (1 - share)
        row[knot + 1, voxels] = side * share
    return table[:, 1:].reshape(_CELLS, -1)


def _depth_and_facing(labelled: Mask) -> tuple[Floats64, Floats64]:
    """Return the signed depth (X, Y, Z) in voxels, and how much the border faces each side: (SIDES, X, Y, Z).

    The latter are the squares of the outward unit normal's parts, which sum to 1: rims change smoothly between sides.
    """
    depth: Floats64 = ndimage.distance_transform_edt(labelled) - ndimage.distance_transform_edt(~labelled)
    depth -= 0.5 * np.sign(depth)
    smooth = ndimage.gaussian_filter(depth, NORMAL_SMOOTHING)
    slope = np.stack([np.gradient(smooth, axis=axis) for axis in range(3)])
    normal = -slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-6)
    facing = np.empty((SIDES, *labelled.shape))
    facing[0::2], facing[1::2] = np.minimum(normal, 0), np.maximum(normal, 0)
    facing *= facing
    return depth, facing


def _between_knots(depth: Floats64) -> tuple[npt.NDArray[np.intp], Floats64]:
    """Return the knot below each depth, and how far it is to the next: 0 to 1."""
    knots = np.array(KNOTS)
    below = np.clip(np.searchsorted(knots, depth) - 1, 0, len(knots) - 2)
    return below, np.clip((depth - knots[below]) / (knots[below + 1] - knots[below]), 0, 1)
