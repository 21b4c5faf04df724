"""Full-resolution intensities at some positions of a scan, for questions that averaging would answer wrongly.

A copy in another modality's contrast has intensities that are a function of the original's, voxel by voxel; averages
over several voxels are no such function any more. So a regular sample of single voxels is compared instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.audits.grain import Grain, cells_of
from anonsynth.audits.pose import IDENTITY, Pose
from anonsynth.audits.views import ViewGrid, body
from anonsynth.cohort.store import Scan

__all__ = ["Places", "Probe", "mirrored_in_place", "places_at", "probe"]

VOXELS = 40_000

Points = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Probe:
    """Single voxels of a scan.

    Attributes:
        positions: (3, V) mm from the middle of the scan's views.
        values: (C, V) intensities; an absent modality is 0.
        grain: (C, V) by how much they differ from the voxels around them.
        cells: (V,) in which cell of the body's box each lies.
        present: (C,) which modalities there are.
    """

    positions: Points
    values: Points
    grain: Grain
    cells: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]


def probe(scan: Scan, grain: Grain, grid: ViewGrid) -> Probe:
    """Return every n-th voxel of the scan's body, at most 40,000, with its (C, X, Y, Z) grain."""
    where = np.flatnonzero(body(scan.image))
    step = max(1, -(-len(where) // VOXELS))
    voxels = np.stack(np.unravel_index(where[::step], scan.label.shape))
    positions = (voxels - _middle(grid)) * np.array(grid.spacing)[:, None]
    placed = positions.astype(np.float32)
    return Probe(placed, scan.image[:, *voxels], grain[:, *voxels], cells_of(placed), scan.present)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the positions of a query lie in a candidate.

    Attributes:
        voxels: (3, V) the nearest voxels, within the grid.
        seen: (V,) whether the position lies in the candidate's field of view. Its air counts, whether somebody has set
            it to 0 or not: left out where it is 0, a candidate with noisy air would be like everybody.
    """

    voxels: npt.NDArray[np.int64]
    seen: npt.NDArray[np.bool_]


def places_at(scan: Scan, positions: Points, pose: Pose, grid: ViewGrid) -> Places:
    """Find where a pose puts positions (3, V) of the query in a candidate."""
    moved = pose.matrix @ positions + pose.offset[:, None]
    if pose.mirrored:
        moved[0] = -moved[0]
    voxels = np.rint(moved / np.array(grid.spacing)[:, None] + _middle(grid)).astype(np.int64)
    low, high = np.array(scan.record.fov_low)[:, None], np.array(scan.record.fov_high)[:, None]
    seen = ((voxels >= low) & (voxels < high)).all(0)
    return Places(np.clip(voxels, 0, np.array(grid.shape)[:, None] - 1), seen)


def mirrored_in_place(grid: ViewGrid) -> Pose:
    """Return the pose of a scan that was reversed along its grid's left-right axis; that of the views may be longer."""
    beyond = float((grid.shape[0] - 1) / 2 - _middle(grid)[0, 0]) * grid.spacing[0]
    return Pose(IDENTITY.matrix, np.array([-2 * beyond, 0.0, 0.0]), mirrored=True)


def _middle(grid: ViewGrid) -> npt.NDArray[np.float64]:
    """Return the (3, 1) voxel position of the middle of the views, which may reach beyond the grid."""
    return np.array([(f * n - 1) / 2 for f, n in zip(grid.factors, grid.view_shape, strict=True)])[:, None]
