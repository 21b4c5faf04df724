"""The views under which two scans are compared, and the small volumes that each view keeps of a scan.

    intensity   intensities, standardised per modality in the field of view: what a plain copy keeps
    edges       where intensity changes and along which line, not by how much nor in which sense (Haber & Modersitzki
                2006, doi:10.1007/11866763_89): indifferent to contrast, even of another modality, and to bias fields
    label       the label map, one channel a label
    ground      where there is anything to compare: the body, and the field of view

A view is a stack of channels (C, X, Y, Z) on a grid of at most 32 voxels an axis, of norm 1 (each modality of the
intensities for itself), so that similarity is a sum of products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.cohort.geometry import FloatVolume, LabelVolume
from anonsynth.cohort.store import Scan

__all__ = [
    "View",
    "ViewGrid",
    "ViewVolume",
    "block_mean",
    "body",
    "field_of_view",
    "make_view",
    "make_views",
    "mirrored",
]

VIEW_AXIS = 32
SMOOTH = 0.7
CRACK = 2
MIN_LABEL_VOXELS = 8


class View(StrEnum):
    """One way of looking at a scan."""

    INTENSITY = "intensity"
    EDGES = "edges"
    LABEL = "label"
    GROUND = "ground"


@dataclass(frozen=True, slots=True)
class ViewVolume:
    """What a view keeps of a scan.

    Attributes:
        volume: (C, X, Y, Z) float32; a present modality has mean 0 and norm 1; edges and labels have norm 1
            in all channels together; the ground has two, body and field of view, in [0, 1].
        present: (C,) bool for modalities, (1,) for the others; False where there is nothing to compare.
    """

    volume: FloatVolume
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ViewGrid:
    """How full-resolution voxels become view voxels and index voxels.

    Attributes:
        shape: (X, Y, Z) of the cohort's grid, voxels.
        spacing: Its voxel size, mm.
        labels: Label values that become channels.
        axis: Largest number of view voxels along an axis; a huge one keeps full resolution.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    labels: tuple[int, ...]
    axis: int = VIEW_AXIS

    @property
    def fine(self) -> tuple[int, int, int]:
        """Grid voxels per voxel at which edges are found: twice as fine as the view where the view is coarser."""
        x, y, z = (-(-n // (2 * self.axis)) for n in self.shape)
        return (x, y, z)

    @property
    def factors(self) -> tuple[int, int, int]:
        """Grid voxels per view voxel along each axis."""
        x, y, z = (f if -(-n // f) <= self.axis else 2 * f for n, f in zip(self.shape, self.fine, strict=True))
        return (x, y, z)

    @property
    def coarser(self) -> tuple[int, int, int]:
        """Voxels at which edges are found per view voxel along each axis."""
        x, y, z = (f // own for f, own in zip(self.factors, self.fine, strict=True))
        return (x, y, z)

    @property
    def view_shape(self) -> tuple[int, int, int]:
        """Voxels of a view."""
        x, y, z = (-(-n // f) for n, f in zip(self.shape, self.factors, strict=True))
        return (x, y, z)

    @property
    def view_spacing(self) -> tuple[float, float, float]:
        """Voxel size of a view, mm."""
        x, y, z = (f * s for f, s in zip(self.factors, self.spacing, strict=True))
        return (x, y, z)

    def reduce(self, volume: npt.NDArray[np.generic]) -> FloatVolume:
        """Average (X, Y, Z) grid voxels to view voxels; the far ends are padded with zeros."""
        return block_mean(volume, self.factors)


def make_views(scan: Scan, grid: ViewGrid) -> Mapping[View, ViewVolume]:
    """Return every view of a scan; what the scan lacks is marked as not present."""
    return {view: make_view(scan, grid, view) for view in View}


def make_view(scan: Scan, grid: ViewGrid, view: View) -> ViewVolume:
    """Return one view of a scan."""
    if view is View.LABEL:
        return _label_view(scan.label, grid)
    if view is View.EDGES:
        return _edges(scan, grid)
    if view is View.GROUND:
        return _ground(scan, grid)
    reduced = np.stack([grid.reduce(channel) for channel in scan.image])
    inside = body(reduced)
    volume = np.stack([_standardised(channel, inside) for channel in reduced])
    return ViewVolume(volume, np.asarray(scan.present & volume.any((1, 2, 3))))


def mirrored(volume: FloatVolume, view: View) -> FloatVolume:
    """Reverse a view's volume (C, X, Y, Z) along the left-right axis; the lines of edges turn with it."""
    flipped = volume[:, ::-1]
    if view is View.EDGES:
        flipped = flipped * np.array([1, 1, 1, -1, -1, 1], np.float32)[:, None, None, None]
    return np.ascontiguousarray(flipped)


def field_of_view(image: FloatVolume) -> npt.NDArray[np.bool_]:
    """Return the (X, Y, Z) bounding box of everything that is not 0 in any channel.

    Taken from the voxels for every scan alike, since a folder made by another tool does not record it.
    """
    inside = (image != 0).any(0)
    box = np.zeros(inside.shape, bool)
    if inside.any():
        box[ndimage.find_objects(inside.astype(np.uint8))[0]] = True
    return box


def _ground(scan: Scan, grid: ViewGrid) -> ViewVolume:
    """Air that somebody has set to 0 is seen, and dark; what lies beyond the field of view is not known."""
    box = np.zeros(grid.shape, np.float32)
    box[tuple(slice(low, high) for low, high in zip(scan.record.fov_low, scan.record.fov_high, strict=True))] = 1
    fine = np.stack([block_mean(channel, grid.fine) for channel in scan.image])
    volume = np.stack([block_mean(_interior(fine), grid.coarser), grid.reduce(box)])
    return ViewVolume(volume, np.array([bool(volume[0].any())]))


def _label_view(label: LabelVolume, grid: ViewGrid) -> ViewVolume:
    channels = np.stack([grid.reduce((label == value).astype(np.float32)) for value in grid.labels or (1,)])
    norm = _norm(channels)
    present = np.count_nonzero(label) >= MIN_LABEL_VOXELS and norm > 0
    return ViewVolume(channels / norm if present else np.zeros_like(channels), np.array([present]))


def _standardised(channel: FloatVolume, fov: npt.NDArray[np.bool_]) -> FloatVolume:
    """Centre a channel in the field of view, scale it to norm 1; 0 outside and where it is constant."""
    if not fov.any():
        return np.zeros_like(channel)
    centred = np.where(fov, channel - channel[fov].mean(dtype=np.float64), 0)
    norm = _norm(centred)
    flat = norm <= np.finfo(np.float32).eps * _norm(channel)
    return np.zeros_like(channel) if flat else (centred / norm).astype(np.float32)


def body(image: FloatVolume) -> npt.NDArray[np.bool_]:
    """Return the (X, Y, Z) voxels of a (C, X, Y, Z) image that are not outside.

    Zeros that are enclosed, or no more than specks and cracks, belong to the body: cut-off intensities are often 0.
    """
    seen = np.pad((image != 0).any(0), CRACK, mode="edge")
    closed = ndimage.binary_closing(seen, iterations=CRACK)
    return np.asarray(ndimage.binary_fill_holes(closed)[(slice(CRACK, -CRACK),) * 3], bool)


def _interior(image: FloatVolume) -> npt.NDArray[np.bool_]:
    """Return the (X, Y, Z) voxels of the body (C, X, Y, Z) without its outermost ones.

    Where a scan was moved, its rim is half scan, half nothing; at the end of the grid it may have been cut there too.
    """
    return np.asarray(ndimage.binary_erosion(body(image)), bool)


def _edges(scan: Scan, grid: ViewGrid) -> ViewVolume:
    """Sum over modalities the tensors n n' - |n|²/3 of normalised gradients n, as six channels.

    The inner product of two such tensors is (n · m)² less what random directions give, whatever the sign of either.
    Outside the body its nearest value is continued, so that the rim of a field of view or of a mask is no edge. Edges
    are found before the image is averaged: the average of a remapped image is not the remapped average.
    """
    fine = np.stack([block_mean(channel, grid.fine) for channel in scan.image])
    inside = _interior(fine)
    tensor = np.zeros((6, *inside.shape), np.float32)
    if inside.any():
        nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
        for channel in fine[scan.present]:
            tensor += _direction_tensor(channel[tuple(nearest)]) * inside
    averaged = np.stack([block_mean(channel, grid.coarser) for channel in tensor])
    norm = _norm(averaged)
    return ViewVolume(averaged / norm if norm > 0 else averaged, np.array([norm > 0]))


def _direction_tensor(channel: FloatVolume) -> FloatVolume:
    slopes = [ndimage.gaussian_filter1d(channel, SMOOTH, axis, order=1, mode="nearest") for axis in range(3)]
    for axis, slope in enumerate(slopes):
        for other in {0, 1, 2} - {axis}:
            slope[...] = ndimage.gaussian_filter1d(slope, SMOOTH, other, mode="nearest")
    square = np.sum([slope**2 for slope in slopes], axis=0)
    if not square.any():
        return np.zeros((6, *channel.shape), np.float32)
    x, y, z = (slope / np.sqrt(square + np.median(square[square > 0])) for slope in slopes)
    third, twice = (x**2 + y**2 + z**2) / 3, np.float32(np.sqrt(2))
    return np.stack([x * x - third, y * y - third, z * z - third, twice * x * y, twice * x * z, twice * y * z])


def block_mean(volume: npt.NDArray[np.generic], factors: tuple[int, ...]) -> FloatVolume:
    """Average blocks of (X, Y, Z) voxels, one axis after the other; strided sums are far faster than one big mean."""
    result = np.asarray(volume, np.float32)
    for axis, factor in enumerate(factors):
        if factor > 1:
            pad = [(0, -result.shape[axis] % factor if axis == other else 0) for other in range(result.ndim)]
            lines = np.moveaxis(np.pad(result, pad), axis, 0)
            total = lines[0::factor].copy()
            for start in range(1, factor):
                total += lines[start::factor]
            result = np.moveaxis(total / np.float32(factor), 0, axis)
    return np.ascontiguousarray(result)


def _norm(array: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.square(array).sum(dtype=np.float64)))
