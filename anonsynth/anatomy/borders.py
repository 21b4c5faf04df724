"""Borders as people draw them: a label map's border is often a voxel away from the one that is seen in the image.

A generator that paints a label map gives scans whose labels fit every edge, and a network that is trained on them
trusts edges more than real labels deserve. So a scan is written for a map whose borders stray a little from the map
that goes with it. How far is measured (`border_profile`): the share of voxels on the inner side of a label's border
that look like its surroundings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.anatomy.context import CONTEXT_CLASSES, context_map
from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["DEPTHS", "border_profile", "seen_classes", "stray"]

DEPTHS = (0.2, 0.8, 1.2, 1.7, 2.3)
"""Edges of the depths inside a label, in voxels, at which a profile is taken."""
CORRELATION = 1.5
"""A border strays over about this many voxels in one direction."""
CONTRAST_NEEDED = 0.2
"""Surroundings count only where they differ from the label by this much in normalised intensity."""
CLEAR_OF_BORDER = 1.5


def stray(classes: LabelVolume, labelled_from: int, distance: float, rng: np.random.Generator) -> LabelVolume:
    """Return a class map whose border between labels and surroundings strays.

    Args:
        classes: (X, Y, Z) class map, 0 outside the field of view.
        labelled_from: First class that stands for a label.
        distance: Standard deviation in voxels of how far the border moves, to either side; with 0 nothing moves.
        rng: Source of randomness; always drawn from, whatever the distance.
    """
    noise = ndimage.gaussian_filter(rng.standard_normal(classes.shape), CORRELATION)
    inside, fov = classes >= labelled_from, classes > 0
    around = fov & ~inside
    if distance <= 0 or not inside.any() or not around.any():
        return classes
    wanted = _depth(inside) + noise * (distance / noise.std()) > 0
    strayed = classes.copy()
    for gone, source in ((inside & ~wanted, around), (around & wanted, inside)):
        nearest = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
        strayed[gone] = classes[tuple(nearest)][gone]
    return strayed


def border_profile(image: FloatVolume, classes: LabelVolume, labelled_from: int) -> npt.NDArray[np.float64]:
    """Count, by depth inside the labels, the voxels that look like the surroundings, and all: (2, depths).

    A voxel looks like the surroundings if its intensity is nearer to the median of the nearest context class than to
    the median of the labels.

    Args:
        image: (X, Y, Z) in [0, 1].
        classes: (X, Y, Z) class map, 0 outside the field of view.
        labelled_from: First class that stands for a label; the classes below it are context.
    """
    counts = np.zeros((2, len(DEPTHS) - 1))
    inside = classes >= labelled_from
    depth = _depth(inside)
    clear = (classes > 0) & ~inside & (depth < -CLEAR_OF_BORDER)
    if not inside.any() or not clear.any():
        return counts
    nearest = ndimage.distance_transform_edt(~clear, return_distances=False, return_indices=True)
    medians = np.full(labelled_from, np.nan)
    for index in range(1, labelled_from):
        if (classes == index).any():
            medians[index] = np.median(image[classes == index])
    own = float(np.median(image[inside]))
    bins = np.digitize(depth, DEPTHS) - 1
    use = inside & (bins >= 0) & (bins < len(DEPTHS) - 1)
    other = medians[classes[tuple(axis[use] for axis in nearest)]]
    told_apart = np.abs(other - own) > CONTRAST_NEEDED
    like_other = np.abs(image[use] - other) < np.abs(image[use] - own)
    counts[0] = np.bincount(bins[use][told_apart & like_other], minlength=len(DEPTHS) - 1)
    counts[1] = np.bincount(bins[use][told_apart], minlength=len(DEPTHS) - 1)
    return counts


def seen_classes(image: FloatVolume, labelled: npt.NDArray[np.bool_], fov: npt.NDArray[np.bool_]) -> LabelVolume:
    """Return a class map (X, Y, Z) for `border_profile` whose surroundings are read off the image itself.

    Class maps of patients are approximate and drawn ones exact, so profiles taken with them cannot be compared.
    """
    context = np.where(fov, context_map(image, fov, CONTEXT_CLASSES) + 1, 0)
    return np.where(labelled, CONTEXT_CLASSES + 1, context).astype(np.uint8)


def _depth(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the signed distance to the border in voxels: above 0 inside, half a voxel at the last voxel."""
    depth: npt.NDArray[np.float64] = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return depth - 0.5 * np.sign(depth)
