"""The one grid of a cohort, inferred from its scans' spacing and extents.

These are statistics of private scans: `cohort.json` says whether the grid was given or inferred, and the model card
repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.errors import UsageError

__all__ = ["MAX_VOXELS", "Extent", "check_grid", "infer_grid"]

MAX_VOXELS = 2**19
MULTIPLE = 4
"""The generator halves each axis twice."""
COVERED = 0.95
MOST = 0.75
LONG_TAIL = 1.25
"""An axis has outliers if 95 % coverage needs this many times what 75 % needs."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What a scan asks of the grid.

    Attributes:
        spacing: Voxel size in mm along right, anterior, superior.
        foreground: Size of the body in mm along the same axes.
        labelled: Size in mm of the box around the body's centre that holds every labelled voxel; zeros if none.
    """

    spacing: tuple[float, float, float]
    foreground: tuple[float, float, float]
    labelled: tuple[float, float, float]


def infer_grid(
    extents: Sequence[Extent],
    *,
    shape: tuple[int, int, int] | None = None,
    spacing: tuple[float, float, float] | None = None,
    max_voxels: int = MAX_VOXELS,
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Return shape and spacing (mm): whatever is given, the rest inferred.

    The spacing is the median over the scans, made coarser only as far as `max_voxels` asks, the finest axes first, so
    that thick slices stay as they are. The shape is the smallest multiple of 4 that holds every labelled voxel of
    every scan and the body of 95 % of the scans. Where that is too large, outliers give way before the spacing does:
    an axis along which a few bodies are far longer than the others holds 75 % of them whole.

    Raises:
        UsageError: If what is given cannot be a grid.
    """
    check_grid(shape, spacing)
    needed = _needed(extents, COVERED)
    if spacing is not None:
        return shape or _shape(needed, np.array(spacing)), spacing
    median = np.round(np.median([extent.spacing for extent in extents], axis=0), 3)
    if shape is not None:
        return shape, _triple(np.maximum(median, needed / np.array(shape)))
    if math.prod(_shape(needed, median)) > max_voxels:
        most = _needed(extents, MOST)
        needed = np.where(needed > LONG_TAIL * most, most, needed)
    coarse = _coarsened(needed, median, max_voxels)
    return _shape(needed, coarse), _triple(coarse)


def _needed(extents: Sequence[Extent], coverage: float) -> npt.NDArray[np.float64]:
    """Return the size in mm that holds every label and the body of a share of the scans, axis by axis."""
    bodies = np.quantile([extent.foreground for extent in extents], coverage, axis=0, method="higher")
    return np.asarray(np.maximum(bodies, np.max([extent.labelled for extent in extents], axis=0)), np.float64)


def _coarsened(
    needed: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64], max_voxels: int
) -> npt.NDArray[np.float64]:
    """Raise the finest axes to the smallest common floor (in 0.05 mm steps) with which the grid is small enough."""
    floor = float(spacing.min())
    while math.prod(_shape(needed, np.maximum(spacing, floor))) > max_voxels:
        floor = round(floor + 0.05, 3)
    return np.maximum(spacing, floor)


def _shape(needed: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    voxels = np.ceil(needed / spacing - 1e-3)
    x, y, z = (max(MULTIPLE, math.ceil(count / MULTIPLE) * MULTIPLE) for count in voxels)
    return (x, y, z)


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 3) for value in values)
    return (x, y, z)


def check_grid(shape: tuple[int, int, int] | None, spacing: tuple[float, float, float] | None) -> None:
    """Raise UsageError if what is given cannot be a grid."""
    if spacing is not None and not all(math.isfinite(value) and value > 0 for value in spacing):
        msg = "--spacing needs three sizes above 0 mm, such as 1,1,1"
        raise UsageError(msg)
    if shape is not None and any(length < MULTIPLE or length % MULTIPLE for length in shape):
        msg = f"--shape needs three multiples of {MULTIPLE}, such as 64,64,48"
        raise UsageError(msg)
