"""The field of view: the box of the grid in which a scan has content, as crops of different size on one grid have it.

It lies in the grid's middle, as ingest puts it. How large it is was fitted to patients (`shape.py`), released with
noise (`cosine_shape.py`), or is public.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_FOV", "box_holding", "in_the_middle", "within"]

Corner = tuple[int, int, int]
LEAST_FOV = 0.25
"""No drawn field of view is smaller than this share of the grid."""


def in_the_middle(extent: npt.NDArray[np.float64], shape: Corner) -> npt.NDArray[np.float64]:
    """Return low and high corner (6,), in voxels, of a box in the grid's middle.

    Args:
        extent: (3,) logarithm of its size, as a share of the grid.
        shape: Of the grid.
    """
    grid = np.array(shape, np.float64)
    size = grid * np.clip(np.exp(extent), LEAST_FOV, 1)
    low = (grid - size) / 2
    return np.concatenate([low, low + size])


def box_holding(
    labelled: npt.NDArray[np.bool_], corners: npt.NDArray[np.floating] | npt.NDArray[np.integer]
) -> tuple[Corner, Corner]:
    """Return the corners, in whole voxels, of a box that is widened where it would cut the (X, Y, Z) labels."""
    shape, whole = np.array(labelled.shape), np.rint(corners).astype(int)
    low = np.clip(whole[:3], 0, shape - 1)
    high = np.clip(whole[3:], low + 1, shape)
    places = np.argwhere(labelled)
    if places.size:
        low = np.minimum(low, np.maximum(places.min(0) - 1, 0))
        high = np.maximum(high, np.minimum(places.max(0) + 2, shape))
    return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def within(shape: Corner, low: Corner, high: Corner) -> npt.NDArray[np.bool_]:
    """Return whether each voxel (X, Y, Z) lies in the box."""
    inside = np.zeros(shape, bool)
    inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return inside
