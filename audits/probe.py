"""Full-resolution intensities at some positions of a scan, for questions that averaging would answer wrongly.

A copy in another modality's contrast has intensities that are a function of the original's, voxel by voxel; averages
over several voxels are no such function any more. So a regular sample of single voxels is compared instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.audits.pose import Pose
from anonsynth.audits.views import ViewGrid, body
from anonsynth.cohort.store import Scan

__all__ = ["Probe", "probe", "read_at"]

VOXELS = 40_000

Points = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Probe:
    """Single voxels of a scan.

    Attributes:
        positions: (3, V) mm from the middle of the scan's views.
        values: (C, V) intensities; an absent modality is 0.
        present: (C,) which modalities there are.
    """

    positions: Points
    values: Points
    present: npt.NDArray[np.bool_]


def probe(scan: Scan, grid: ViewGrid) -> Probe:
    """Return every n-th voxel of the scan's body, at most 40,000."""
    where = np.flatnonzero(body(scan.image))
    step = max(1, -(-len(where) // VOXELS))
    voxels = np.stack(np.unravel_index(where[::step], scan.label.shape))
    positions = (voxels - _middle(grid)) * np.array(grid.spacing)[:, None]
    return Probe(positions.astype(np.float32), scan.image[:, *voxels], scan.present)


def read_at(scan: Scan, positions: Points, pose: Pose, grid: ViewGrid) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Read the nearest voxels of a candidate where a pose puts positions (3, V) of the query.

    Returns:
        (C, V) intensities and (V,) whether the position lies in the candidate's field of view. Its air counts, whether
        somebody has set it to 0 or not: left out where it is 0, a candidate with noisy air would be like everybody.
    """
    moved = pose.matrix @ positions + pose.offset[:, None]
    if pose.mirrored:
        moved[0] = -moved[0]
    voxels = np.rint(moved / np.array(grid.spacing)[:, None] + _middle(grid)).astype(int)
    low, high = np.array(scan.record.fov_low)[:, None], np.array(scan.record.fov_high)[:, None]
    inside: npt.NDArray[np.bool_] = ((voxels >= low) & (voxels < high)).all(0)
    return scan.image[:, *np.clip(voxels, 0, np.array(grid.shape)[:, None] - 1)], inside


def _middle(grid: ViewGrid) -> npt.NDArray[np.float64]:
    """Return the (3, 1) voxel position of the middle of the views, which may reach beyond the grid."""
    return np.array([(f * n - 1) / 2 for f, n in zip(grid.factors, grid.view_shape, strict=True)])[:, None]
