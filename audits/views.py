"""The views under which two scans are compared, and the small volumes that each view keeps of a scan.

    intensity   intensities, standardised per modality in the field of view: what a plain copy keeps
    structure   intensities against their surroundings: indifferent to a bias field and to a linear change of contrast
    label       the label map, one channel a label

A view is a stack of channels (C, X, Y, Z) on a grid of at most 32 voxels an axis, each modality of norm 1, so that
similarity is a sum of products. The index of a reference cohort keeps a still coarser copy of each scan.
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

__all__ = ["View", "ViewGrid", "ViewVolume", "field_of_view", "make_view", "make_views"]

VIEW_AXIS = 32
INDEX_VOXELS = 6144
SURROUNDINGS = 3.0
FLAT = 0.1
MIN_LABEL_VOXELS = 8


class View(StrEnum):
    """One way of looking at a scan."""

    INTENSITY = "intensity"
    STRUCTURE = "structure"
    LABEL = "label"

    @property
    def domain(self) -> str:
        """What of the generated scan the view looks at: `image` or `label`."""
        return "label" if self is View.LABEL else "image"


@dataclass(frozen=True, slots=True)
class ViewVolume:
    """What a view keeps of a scan.

    Attributes:
        volume: (C, X, Y, Z) float32; a present modality has mean 0 and norm 1; label channels have norm 1 together.
        present: (C,) bool for modalities, (1,) for the label view; False where there is nothing to compare.
    """

    volume: FloatVolume
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ViewGrid:
    """How full-resolution voxels become view voxels and index voxels.

    Attributes:
        shape: (X, Y, Z) of the cohort's grid, voxels.
        labels: Label values that become channels.
        axis: Largest number of view voxels along an axis; a huge one keeps full resolution.
    """

    shape: tuple[int, int, int]
    labels: tuple[int, ...]
    axis: int = VIEW_AXIS

    @property
    def factors(self) -> tuple[int, int, int]:
        """Grid voxels per view voxel along each axis."""
        x, y, z = (-(-n // self.axis) for n in self.shape)
        return (x, y, z)

    @property
    def view_shape(self) -> tuple[int, int, int]:
        """Voxels of a view."""
        x, y, z = (-(-n // f) for n, f in zip(self.shape, self.factors, strict=True))
        return (x, y, z)

    def reduce(self, volume: npt.NDArray[np.generic]) -> FloatVolume:
        """Average (X, Y, Z) grid voxels to view voxels; the far ends are padded with zeros."""
        return _block_mean(volume, self.factors)

    def coarse(self, volume: ViewVolume, view: View) -> FloatVolume:
        """Return the (C, x, y, z) coarse float32 features of a view, of norm 1 again like the view.

        All channels together hold about 6,000 numbers: some 25 kB a scan. Label maps are first moved to the middle by
        their centroid, which is well defined for them, so that a shifted copy keeps its place in the ranking.
        """
        channels = volume.volume.shape[0]
        step = int(np.ceil((np.prod(self.view_shape) * channels / INDEX_VOXELS) ** (1 / 3)))
        source = _centred(volume.volume) if view is View.LABEL else volume.volume
        small = np.stack([_block_mean(channel, (step, step, step)) for channel in source])
        for part in small[None] if view is View.LABEL else small:
            norm = _norm(part)
            if norm > 0:
                part /= norm
        return small


def make_views(scan: Scan, grid: ViewGrid) -> Mapping[View, ViewVolume]:
    """Return every view of a scan; what the scan lacks is marked as not present."""
    return {view: make_view(scan, grid, view) for view in View}


def make_view(scan: Scan, grid: ViewGrid, view: View) -> ViewVolume:
    """Return one view of a scan."""
    if view is View.LABEL:
        return _label_view(scan.label, grid)
    reduced = np.stack([grid.reduce(channel) for channel in scan.image])
    fov = field_of_view(reduced)
    standardise = _standardised if view is View.INTENSITY else _structure
    volume = np.stack([standardise(channel, fov) for channel in reduced])
    return ViewVolume(volume, np.asarray(scan.present & volume.any((1, 2, 3))))


def field_of_view(image: FloatVolume) -> npt.NDArray[np.bool_]:
    """Return the (X, Y, Z) bounding box of everything that is not 0 in any channel.

    Taken from the voxels for every scan alike, since a folder made by another tool does not record it.
    """
    inside = (image != 0).any(0)
    box = np.zeros(inside.shape, bool)
    if inside.any():
        box[ndimage.find_objects(inside.astype(np.uint8))[0]] = True
    return box


def _centred(channels: FloatVolume) -> FloatVolume:
    mass = channels.sum(0)
    if not mass.any():
        return channels
    shifts = [round((n - 1) / 2 - c) for n, c in zip(mass.shape, ndimage.center_of_mass(mass), strict=True)]
    return np.roll(channels, shifts, axis=(1, 2, 3))


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


def _structure(channel: FloatVolume, fov: npt.NDArray[np.bool_]) -> FloatVolume:
    """Divide a channel's deviation from its surroundings by the local spread, as local contrast normalisation does."""
    if not fov.any():
        return np.zeros_like(channel)
    weight = ndimage.gaussian_filter(fov.astype(np.float32), SURROUNDINGS) + np.float32(1e-6)
    mean = ndimage.gaussian_filter(np.where(fov, channel, 0), SURROUNDINGS) / weight
    deviation = np.where(fov, channel - mean, 0)
    spread = np.sqrt(ndimage.gaussian_filter(deviation**2, SURROUNDINGS) / weight)
    floor = FLAT * float(channel[fov].std()) + np.finfo(np.float32).tiny
    return _standardised((deviation / (spread + floor)).astype(np.float32), fov)


def _block_mean(volume: npt.NDArray[np.generic], factors: tuple[int, ...]) -> FloatVolume:
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
