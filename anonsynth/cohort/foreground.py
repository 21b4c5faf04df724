"""Where the body is in a volume: in heads with noisy air, skull-stripped brains, z-scored images and crops alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["Foreground", "body_mask", "bounding_box", "find_foreground"]

MIN_BACKGROUND_SHARE = 0.15
"""A volume with less dark or constant border than this is a crop: all of it is foreground."""
DARK = 0.1
"""Air lies below this share of the range between the 0.5th and the 99.5th percentile."""


@dataclass(frozen=True, slots=True)
class Foreground:
    """The body in a volume.

    Attributes:
        mask: (X, Y, Z) bool.
        low: First voxel of the body's bounding box.
        high: One past its last voxel.
    """

    mask: npt.NDArray[np.bool_]
    low: tuple[int, int, int]
    high: tuple[int, int, int]


def find_foreground(array: npt.NDArray[np.generic]) -> Foreground:
    """Find the body.

    The bounding box is that of the largest piece after an opening, so that a bright speck of noise does not widen it.

    Args:
        array: (X, Y, Z) intensities, finite.
    """
    mask = body_mask(np.asarray(array))
    core = ndimage.binary_opening(mask) if min(mask.shape) > 4 else mask
    pieces, count = ndimage.label(core)
    if count > 1:
        core = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    low, high = bounding_box(core if core.any() else mask)
    return Foreground(mask, low, high)


def bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the first voxel and one past the last of the True voxels; the whole volume if there is none."""
    found = ndimage.find_objects(mask.astype(np.uint8), max_label=1)[0]
    slices = found or tuple(slice(0, length) for length in mask.shape)
    x, y, z = slices
    return (x.start, y.start, z.start), (x.stop, y.stop, z.stop)


def body_mask(array: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Return the mask of voxels that are neither padding nor air.

    A constant that fills much of the volume is padding and is left out first, wherever it lies in the range
    (z-scored images keep 0 between their values). Then dark air is, also where a dark value is that constant: of noisy
    air in 8 bits one value may fill much of the volume and the corners without being padding.

    Args:
        array: (X, Y, Z) intensities, finite.
    """
    padding = _constant_padding(array)
    body = np.ones(array.shape, bool) if padding is None else array != padding
    inside = array[body]
    low, high = np.percentile(inside, [0.5, 99.5])
    if padding is not None and padding < low:
        low = float(padding)
    elif padding is not None and padding > low + DARK * (high - low):
        return body
    bright = body & (array > low + DARK * (high - low))
    return bright if bright.mean() <= 1 - MIN_BACKGROUND_SHARE and bright.any() else body


def _constant_padding(array: npt.NDArray[np.generic]) -> float | None:
    """Return the value that fills the corners if it fills enough of the volume."""
    corners = array[:: array.shape[0] - 1, :: array.shape[1] - 1, :: array.shape[2] - 1].ravel()
    values, counts = np.unique(corners, return_counts=True)
    value = values[np.argmax(counts)]
    share = float((array == value).mean())
    return float(value) if MIN_BACKGROUND_SHARE <= share < 1 else None
