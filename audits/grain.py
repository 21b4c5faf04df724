"""The grain of a scan: by how much each voxel differs from those next to it.

Anatomy that two people share is smooth on the scale of single voxels; vessels, folds, noise and whatever a scanner adds
are not, and nobody shares them. The grain of a copy is therefore that of its original, wherever no other image lies on
top of it, and still is when one does: of a blend, the part that was copied keeps its grain. Generated scans that copy
nobody have little grain, and nobody's.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.audits.views import body
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["BOXES", "Grain", "cells_of", "grain_of", "grain_places", "kinships"]

FULL = 127
RIM = 2
"""Voxels: the outermost one may be half scan, half nothing, and the next one differs from it."""
PLACES = 8192
LEAST_OVERLAP = 0.25
LEAST_VOXELS = 200
CELLS = 4
BOXES = (CELLS - 1) ** 3

Grain = npt.NDArray[np.int8]
"""(C, ...) in [-127, 127]; 0 where a modality is absent or everything is alike."""


def grain_of(image: FloatVolume) -> Grain:
    """Return the (C, X, Y, Z) grain of an image (C, X, Y, Z): the signs of the differences, less so of small ones.

    Large differences, as at the skull, would otherwise be all that counts.
    """
    inner = ndimage.binary_erosion(body(image), iterations=RIM)
    return np.stack([_of_channel(channel) * inner for channel in image])


@lru_cache(maxsize=8)
def grain_places(shape: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Return at most 8192 voxels of a grid (X, Y, Z), numbered as in a flattened volume; always the same."""
    count = int(np.prod(shape))
    places: npt.NDArray[np.int64] = np.sort(np.random.default_rng(0).permutation(count)[:PLACES])
    return places


def cells_of(positions: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Number the cell, of four along each axis of the box around positions (3, V), in which each of them lies."""
    low, high = positions.min(1, keepdims=True, initial=np.inf), positions.max(1, keepdims=True, initial=-np.inf)
    cell = np.minimum(CELLS * (positions - low) / np.maximum(high - low, 1e-6), CELLS - 1).astype(np.int64)
    return np.asarray(np.ravel_multi_index(tuple(cell), (CELLS,) * 3), np.int64)


def kinships(
    query: Grain,
    candidate: Grain,
    cells: npt.NDArray[np.int64],
    seen: npt.NDArray[np.bool_],
    shared: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Return how far the grain of both is the same, or the same inverted, everywhere and in each box.

    A box is half as long as the body along each axis; boxes overlap by half.

    Args:
        query: (C, V) at some places.
        candidate: (C, V) at the same places.
        cells: (V,) in which cell each place lies.
        seen: (V,) places that both scans cover.
        shared: (C,) modalities that both have.

    Returns:
        (1 + 27, C) absolute cosines in [0, 1], first everywhere; -1 where too little is shared.
    """
    found = np.full((1 + BOXES, len(shared)), -1.0)
    size, covered = _sums(cells, np.ones(len(seen))), _sums(cells, seen.astype(np.float64))
    enough = (covered >= LEAST_OVERLAP * size) & (covered >= LEAST_VOXELS)
    for c in np.flatnonzero(shared):
        own, other = (side[c] * seen.astype(np.float64) for side in (query, candidate))
        norm = np.sqrt(_sums(cells, own**2) * _sums(cells, other**2))
        alike = np.abs(_sums(cells, own * other)) / np.maximum(norm, 1e-9)
        found[enough, c] = np.minimum(alike, 1.0)[enough]
    return found


def _sums(cells: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Add up (V,) values everywhere and in each box, (1 + 27,)."""
    each = np.bincount(cells, values, CELLS**3).reshape((CELLS,) * 3)
    boxes = np.lib.stride_tricks.sliding_window_view(each, (2, 2, 2)).sum((3, 4, 5))
    return np.concatenate([[each.sum()], boxes.ravel()])


def _of_channel(channel: FloatVolume) -> Grain:
    apart = np.zeros_like(channel)
    for axis in range(3):
        if channel.shape[axis] > 2:
            lines, result = np.moveaxis(channel, axis, 0), np.moveaxis(apart, axis, 0)
            result[1:-1] += 2 * lines[1:-1] - lines[:-2] - lines[2:]
    inside = channel != 0
    usual = float(np.abs(apart[inside]).mean(dtype=np.float64)) if inside.any() else 0.0
    if usual == 0:
        return np.zeros(channel.shape, np.int8)
    grain: Grain = np.rint(FULL * apart / np.sqrt(apart**2 + np.float32(usual) ** 2)).astype(np.int8)
    return grain
