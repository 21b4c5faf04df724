"""Voxel axes turned to right, anterior, superior, and questions about where a volume lies."""

from __future__ import annotations

from itertools import product

import nibabel as nib
import numpy as np
import numpy.typing as npt

from anonsynth.cohort.sources import RawVolume

__all__ = ["Box", "box_of", "corners", "overlap", "spacing_of", "to_ras"]

Box = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Lowest and highest corner in RAS+ mm, outer faces of the voxels included."""


def to_ras(raw: RawVolume) -> RawVolume:
    """Permute and flip the axes to the nearest right, anterior, superior; no voxel changes its value or place.

    All later steps start here, so a cohort does not depend on how its files store their axes.
    """
    turn = nib.orientations.io_orientation(raw.affine)
    array = nib.orientations.apply_orientation(raw.array, turn)
    affine = raw.affine @ nib.orientations.inv_ornt_aff(turn, raw.array.shape)
    return RawVolume(array, np.asarray(affine, np.float64))


def spacing_of(affine: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the voxel size (mm) along each voxel axis."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return (float(x), float(y), float(z))


def corners(affine: npt.NDArray[np.float64], low: tuple[int, ...], high: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the (8, 3) outer corners (RAS+ mm) of the block of voxels `low` ≤ index < `high`."""
    faces = [(start - 0.5, end - 0.5) for start, end in zip(low, high, strict=True)]
    return np.array([affine[:3, :3] @ corner + affine[:3, 3] for corner in product(*faces)])


def box_of(affine: npt.NDArray[np.float64], low: tuple[int, ...], high: tuple[int, ...]) -> Box:
    """Return the axis-aligned box (RAS+ mm) around the voxels `low` ≤ index < `high`."""
    points = corners(affine, low, high)
    return points.min(axis=0), points.max(axis=0)


def overlap(first: Box, second: Box) -> float:
    """Return the share of the smaller box that lies within the other."""
    shared = np.minimum(first[1], second[1]) - np.maximum(first[0], second[0])
    smaller = min(float(np.prod(high - low)) for low, high in (first, second))
    return float(np.prod(np.maximum(shared, 0.0))) / smaller
