"""From a scan's own voxels to the cohort's grid, in one interpolation.

Images: a Gaussian against aliasing where the grid is coarser than the scan (Cardoso et al., "Scale factor point spread
function matching", MICCAI 2015), then linear interpolation. Label maps: each label's indicator is treated like an
image and the largest share wins, so no value appears that the source does not have.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume
from anonsynth.cohort.sources import RawVolume

__all__ = ["field_of_view", "place_grid", "resample_image", "resample_label"]

FWHM = 2 * np.sqrt(2 * np.log(2))
ON_A_BOUND = 1e-3
"""Voxels; positions closer to a voxel's face than this are rounded to the same side on every machine."""


def place_grid(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], centre: npt.NDArray[np.float64], scan: RawVolume
) -> Grid:
    """Lay the cohort's grid over a scan: centred, and shifted by less than a voxel onto the scan's own voxels.

    The shift spares scans that already have the grid's spacing and axes any interpolation.

    Args:
        shape: Voxels of the grid.
        spacing: Voxel size of the grid in mm.
        centre: (3,) RAS+ mm.
        scan: The scan's first volume, RAS+ axes.
    """
    first = centre - (np.array(shape) - 1) / 2 * np.array(spacing)
    index = np.linalg.inv(scan.affine) @ np.append(first, 1.0)
    snapped = scan.affine @ np.append(np.floor(index[:3] + 0.5 - ON_A_BOUND), 1.0)
    x, y, z = (float(value) for value in snapped[:3])
    return Grid(shape, spacing, (x, y, z))


def resample_image(image: FloatVolume, affine: npt.NDArray[np.float64], grid: Grid) -> FloatVolume:
    """Resample an (X, Y, Z) float32 image onto the grid; 0 outside its field of view."""
    step = np.linalg.inv(affine) @ grid.affine
    sampled = _sample(image, step, _blur(affine, grid), grid.shape)
    return sampled * _inside(image.shape, step, grid.shape)


def resample_label(label: LabelVolume, affine: npt.NDArray[np.float64], grid: Grid) -> LabelVolume:
    """Resample an (X, Y, Z) uint8 label map onto the grid; 0 outside its field of view."""
    step, blur = np.linalg.inv(affine) @ grid.affine, _blur(affine, grid)
    best = np.full(grid.shape, -np.inf, np.float32)
    winner = np.zeros(grid.shape, np.uint8)
    for value in np.unique(label):
        share = _sample((label == value).astype(np.float32), step, blur, grid.shape)
        better = share > best
        winner[better] = value
        best[better] = share[better]
    return winner * _inside(label.shape, step, grid.shape)


def field_of_view(shape: tuple[int, ...], affine: npt.NDArray[np.float64], grid: Grid) -> npt.NDArray[np.bool_]:
    """Return the (X, Y, Z) mask of grid voxels whose centre lies within the volume."""
    return _inside(shape, np.linalg.inv(affine) @ grid.affine, grid.shape)


def _sample(
    image: FloatVolume, step: npt.NDArray[np.float64], blur: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> FloatVolume:
    smooth = ndimage.gaussian_filter(image, blur, mode="nearest", truncate=3.0) if blur.any() else image
    matrix, offset = _exact(step[:3, :3]), _exact(step[:3, 3])
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        matrix = np.diag(matrix)  # scipy is several times faster along separate axes
    sampled = ndimage.affine_transform(
        smooth, matrix, offset, shape, output=np.float32, order=1, mode="nearest", prefilter=False
    )
    return np.asarray(sampled, np.float32)


def _exact(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round away what inverting the affine left, so that a voxel that is hit is hit exactly."""
    return np.asarray(np.round(values, 9))


def _blur(affine: npt.NDArray[np.float64], grid: Grid) -> npt.NDArray[np.float64]:
    """Return the Gaussian's σ (voxels of the scan) along each of the scan's axes; 0 where the grid is not coarser."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    along = 1 / np.linalg.norm(directions / np.array(grid.spacing)[:, None], axis=0)
    factor = along / np.linalg.norm(affine[:3, :3], axis=0)
    sigma = np.sqrt(np.maximum(factor**2 - 1, 0.0)) / FWHM
    return np.where(factor > 1 + 1e-3, sigma, 0.0)


def _inside(
    source: tuple[int, ...], step: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> npt.NDArray[np.bool_]:
    inside = np.ones(shape, bool)
    index = np.ix_(*(np.arange(length) for length in shape))
    for axis, length in enumerate(source):
        position = sum(step[axis, i] * index[i] for i in range(3)) + step[axis, 3]
        inside &= (position >= -0.5 - ON_A_BOUND) & (position <= length - 0.5 + ON_A_BOUND)
    return inside
