"""Rough alignment of two scans: shift by whole voxels and left-right mirror, found by cross-correlation.

One product of spectra gives the similarity at every shift. skimage.registration.phase_cross_correlation does the same
but takes the magnitude over all shifts and tells one of them; here shifts are bounded, anti-correlation is no
similarity, several modalities vote together, and a scan's spectrum is computed once for all its comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import fft

from anonsynth.audits.views import ViewVolume
from anonsynth.cohort.geometry import FloatVolume, LabelVolume

__all__ = ["Placement", "Spectrum", "best_placement", "place", "spectrum"]

LARGEST_SHIFT = 1 / 6

Channels = TypeVar("Channels", FloatVolume, LabelVolume)


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The Fourier transform of a view.

    Attributes:
        values: (C, X, Y, Z // 2 + 1) complex64.
        shape: (X, Y, Z) of the view.
        present: As in ViewVolume.
    """

    values: npt.NDArray[np.complex64]
    shape: tuple[int, int, int]
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Placement:
    """How the first scan lies best on the second.

    Attributes:
        similarity: Mean over shared modalities of the correlation, in [-1, 1]; -1 if nothing is shared.
        shift: Voxels to move the first scan by, after mirroring.
        mirrored: Whether the first scan is reversed along the left-right axis.
    """

    similarity: float
    shift: tuple[int, int, int] = (0, 0, 0)
    mirrored: bool = False


def spectrum(view: ViewVolume) -> Spectrum:
    """Transform a view once for all its comparisons."""
    values = fft.rfftn(view.volume, axes=(1, 2, 3)).astype(np.complex64)
    _, x, y, z = view.volume.shape
    return Spectrum(values, (x, y, z), view.present)


def best_placement(moving: Spectrum, fixed: Spectrum) -> Placement:
    """Find the mirror and the shift (at most a sixth of each axis) at which `moving` is most similar to `fixed`."""
    shared = moving.present & fixed.present
    if not shared.any():
        return Placement(-1.0)
    use = np.ones(len(moving.values), bool) if shared.size == 1 else shared
    first, second = moving.values[use], fixed.values[use]
    # Reversing a signal modulo its length reverses its spectrum; a plain flip is that, moved by one voxel.
    reverse = -np.arange(moving.shape[0]) % moving.shape[0]
    plain = _peak(first, second, moving.shape)
    mirror = _peak(first[:, reverse], second, moving.shape, offset=-1)
    count = int(shared.sum())
    if plain[0] >= mirror[0]:
        return Placement(min(plain[0] / count, 1.0), plain[1])
    x, y, z = mirror[1]
    return Placement(min(mirror[0] / count, 1.0), (x + 1, y, z), mirrored=True)


def place(volume: Channels, placement: Placement) -> Channels:
    """Mirror and shift a (C, X, Y, Z) volume; what comes in from outside is 0."""
    moved = volume[:, ::-1] if placement.mirrored else volume
    result = np.zeros_like(volume)
    target, source = [slice(None)], [slice(None)]
    for size, step in zip(volume.shape[1:], placement.shift, strict=True):
        target.append(slice(max(step, 0), size + min(step, 0)))
        source.append(slice(max(-step, 0), size - max(step, 0)))
    result[tuple(target)] = moved[tuple(source)]
    return result


def _peak(
    first: npt.NDArray[np.complex64], second: npt.NDArray[np.complex64], shape: tuple[int, int, int], offset: int = 0
) -> tuple[float, tuple[int, int, int]]:
    product = np.einsum("cxyz,cxyz->xyz", np.conj(first), second)
    surface = fft.irfftn(product, s=shape)
    shifts = [np.r_[0 : reach + 1, -reach:0] for reach in (int(n * LARGEST_SHIFT) for n in shape)]
    shifts[0] = shifts[0] + offset
    window = surface[np.ix_(*shifts)]
    x, y, z = np.unravel_index(int(window.argmax()), window.shape)
    peak = (int(shifts[0][x]), int(shifts[1][y]), int(shifts[2][z]))
    return _between_voxels(surface, peak), peak


def _between_voxels(surface: FloatVolume, peak: tuple[int, int, int]) -> float:
    """Return the height of the peak between voxels, by a parabola along each axis.

    A scan that was moved by half a view voxel would otherwise seem to differ by a tenth from itself.
    """
    centre = height = float(surface[peak])
    for axis in range(3):
        before, after = list(peak), list(peak)
        before[axis] -= 1
        after[axis] = (after[axis] + 1) % surface.shape[axis]
        low, high = float(surface[tuple(before)]), float(surface[tuple(after)])
        curvature = 2 * centre - low - high
        if low < centre and high < centre and curvature > 0:
            height += (high - low) ** 2 / (8 * curvature)
    return height
