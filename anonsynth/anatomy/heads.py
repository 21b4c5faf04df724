"""Does a cohort show whole heads? Asked when no label names the anatomy, before a brain atlas is used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.cohort.geometry import FloatVolume
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort

__all__ = ["is_head", "look_like_heads"]

LOOKED_AT = 8
TISSUE = 0.1
WIDTH_MM = (110.0, 200.0)
LENGTH_MM = (140.0, 250.0)
"""Breadth and length of adult heads with a margin (roughly 140–170 and 175–215 mm, Ball et al. 2010)."""
LEAST_HEIGHT_MM = 60.0
FILL = (0.60, 0.92)
"""Share of its bounding rectangle that the middle axial outline fills; an ellipse fills 0.79."""
LEAST_SYMMETRY = 0.65


def look_like_heads(cohort: Cohort) -> bool:
    """Tell whether most of the first training scans pass `is_head` in their first acquired modality."""
    votes = []
    for record in cohort.of(Split.TRAIN)[:LOOKED_AT]:
        scan = cohort.load(record)
        votes.append(is_head(scan.image[int(np.argmax(scan.present))], cohort.grid.spacing))
    return bool(votes) and float(np.mean(votes)) > 0.5


def is_head(image: FloatVolume, spacing: tuple[float, float, float]) -> bool:
    """Tell whether (X, Y, Z) shows a whole head, by its size, its outline and its mirror symmetry.

    Args:
        image: RAS+ intensities in [0, 1].
        spacing: Voxel size in mm.
    """
    tissue = ndimage.binary_opening(ndimage.gaussian_filter(image, 1.0) > TISSUE)
    if not tissue.any():
        return False
    height = np.ptp(np.nonzero(tissue.any(axis=(0, 1)))[0]) * spacing[2]
    middle = int(ndimage.center_of_mass(tissue)[2])
    outline = ndimage.binary_fill_holes(tissue[:, :, middle])
    if not outline.any():
        return False
    rows, columns = np.nonzero(outline.any(1))[0], np.nonzero(outline.any(0))[0]
    width, length = (np.ptp(rows) + 1) * spacing[0], (np.ptp(columns) + 1) * spacing[1]
    box = outline[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    sizes = WIDTH_MM[0] <= width <= WIDTH_MM[1] and LENGTH_MM[0] <= length <= LENGTH_MM[1]
    crop = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, middle]
    return bool(
        sizes and height >= LEAST_HEIGHT_MM and FILL[0] <= box.mean() <= FILL[1] and _symmetry(crop) >= LEAST_SYMMETRY
    )


def _symmetry(plane: npt.NDArray[np.float32]) -> float:
    """Return the correlation of a plane (X, Y) with its left–right mirror image, after smoothing."""
    smooth = ndimage.gaussian_filter(plane, 2.0).astype(np.float64)
    return float(np.corrcoef(smooth.ravel(), smooth[::-1].ravel())[0, 1])
