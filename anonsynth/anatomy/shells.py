"""Surroundings by their distance from the labels: next to a structure, tissues have shares of their own.

White matter lies around a hippocampus like a rind, and fluid beside it. A sum of principal modes is smoother than
tissue is, so scores drawn from such a model, classed by the limits of normal scores, would miss the darkest and the
brightest next to the labels. Here the limits depend on the distance, so that at each of them every class has the share
that it has in the training maps.

Zone: spending.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.anatomy.context import score_limits
from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = [
    "EDGES",
    "SHELLS",
    "classes_in_shells",
    "distance_from",
    "limits_for",
    "limits_in_shells",
    "nearest_shell",
    "usual_limits",
]

SHELLS = (1, 2, 3, 4, 5, 7, 10, 15)
"""Distances from the labels, in voxels, at which limits are known; between them they are interpolated."""
EDGES = np.linspace(-4, 4, 801)
"""Bins of the histograms of normal scores that limits are read from."""

Floats = npt.NDArray[np.float32]


def usual_limits(context: int) -> Floats:
    """Return (len(SHELLS), context − 1) limits that are those of normal scores at every distance."""
    return np.tile(score_limits(context), (len(SHELLS), 1))


def limits_in_shells(maps: Iterable[tuple[LabelVolume, FloatVolume]], context: int) -> Floats:
    """Return the limits (len(SHELLS), context − 1) that give every class its share at each distance.

    Args:
        maps: Class maps (X, Y, Z), classes 1 to `context` being surroundings, each with the normal scores (X, Y, Z)
            that the model gives it.
        context: Number of classes of surroundings, at least two.
    """
    scored = np.zeros((len(SHELLS), len(EDGES) - 1))
    classed = np.zeros((len(SHELLS), context))
    rows, columns = np.arange(len(SHELLS) + 1), np.arange(context + 1) + 0.5
    for classes, scores in maps:
        around = (classes > 0) & (classes <= context)
        distance = distance_from(classes > context)[around]
        shell = nearest_shell(distance)
        scored += np.histogram2d(shell, scores[around].clip(EDGES[0], EDGES[-1]), (rows, EDGES))[0]
        classed += np.histogram2d(shell, classes[around], (rows, columns))[0]
    return limits_for(scored, classed)


def limits_for(scored: npt.NDArray[np.float64], classed: npt.NDArray[np.float64]) -> Floats:
    """Return the limits (len(SHELLS), K − 1) at which scores fall into classes as often as they should.

    Args:
        scored: (len(SHELLS), bins) how often scores fall between `EDGES` at each distance.
        classed: (len(SHELLS), K) how often each class should occur there.
    """
    limits = usual_limits(classed.shape[1])
    for row in np.flatnonzero((classed.sum(1) > 0) & (scored.sum(1) > 0)):
        reached = np.cumsum(scored[row]) / scored[row].sum()
        wanted = np.cumsum(classed[row])[:-1] / classed[row].sum()
        limits[row] = np.interp(wanted, reached, EDGES[1:])
    return limits


def nearest_shell(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return which of `SHELLS` each of (V,) distances is nearest to."""
    shell: npt.NDArray[np.intp] = np.abs(distance[:, None] - SHELLS).argmin(1)
    return shell


def classes_in_shells(scores: FloatVolume, labelled: npt.NDArray[np.bool_], limits: Floats) -> LabelVolume:
    """Return the class (X, Y, Z), from 0, of normal scores by the limits at each voxel's distance from the labels."""
    distance = distance_from(labelled)
    classes = np.zeros(scores.shape, np.uint8)
    for column in limits.T.astype(float):
        classes += scores > np.interp(distance, SHELLS, column)
    return classes


def distance_from(labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the distance (X, Y, Z) to the nearest labelled voxel, in voxels; the last shell's where there is none."""
    if not labelled.any():
        return np.full(labelled.shape, float(SHELLS[-1]))
    distance: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~labelled)
    return distance
