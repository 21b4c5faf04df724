"""The public template every brain starts from: ICBM152 2009a, as the nilearn wheel ships it.

The templates are averages of 152 young adults (Fonov et al. 2009, NeuroImage 47:S102; Fonov et al. 2011, NeuroImage
54:313-327). Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute,
McGill University; permission to use, copy, modify and distribute is granted with that notice.

An average is blurred, so a template does not hold tissue classes but *level functions*: sharpened images whose level
sets are tissue boundaries. A subject moves the levels and perturbs them, and gets folds of its own.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from scipy import ndimage

from anonsynth.anatomy.fields import resize
from anonsynth.cohort.geometry import FloatVolume, Grid
from anonsynth.errors import InputError

__all__ = ["CHANNELS", "BrainTemplate", "brain_template", "sample"]

CHANNELS = ("csf_level", "wm_level", "detail", "outside", "ventricle")
"""Channels of `BrainTemplate.volumes`, in order."""

_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_MARGIN_MM = 30
_CLOSING_MM = 7.0
_Triple = npt.NDArray[np.int64]
_CSF_INTENSITY = 60.0
"""T1 value of fluid in the template (0..255); outside the brain the template is 0, which is not fluid."""


@dataclass(frozen=True)
class BrainTemplate:
    """Level functions of an average brain on a working grid; the world's origin is the brain's centre.

    Attributes:
        grid: The working grid, RAS+, mm.
        volumes: (5, X, Y, Z) float32, see `CHANNELS`:
            csf_level: sharpened T1 of the template, 0..255; fluid lies below about 125.
            wm_level: white minus grey matter, -1..1, sharpened.
            detail: relative T1 brightening beyond the tissue's mean (deep nuclei, myelin), about -0.2..0.2.
            outside: signed distance to the intracranial surface, mm, positive outside.
            ventricle: probability of a ventricle, 0..1.
        drift: (3, X, Y, Z) mm; unit-peak field that points away from the ventricles (their enlargement).
        extent: Size of the brain in mm along each axis.
    """

    grid: Grid
    volumes: FloatVolume
    drift: FloatVolume
    extent: tuple[float, float, float]


@lru_cache(maxsize=2)
def brain_template(spacing: float = 1.5) -> BrainTemplate:
    """Return the template on a working grid of about `spacing` mm; computed once per process and spacing."""
    t1, grey, white = (_read(kind) for kind in ("t1", "gm", "wm"))
    corners = np.argwhere(t1 > 0)
    low, high = corners.min(0), corners.max(0) + 1
    t1, grey, white = (_about(volume, low, high, spacing) for volume in (t1, grey, white))
    full = high - low + 2 * _MARGIN_MM
    grid = _grid_about(full, t1.shape, (full - 1) / 2)
    # The brain's edge is a mixture with the zeros around it; a voxel that is half brain is brain.
    brain = ndimage.binary_fill_holes(ndimage.grey_closing(t1, (3, 3, 3)) > _CSF_INTENSITY / 2)
    outside = _outside(brain, grid)
    filled = np.where(brain, np.maximum(t1, _CSF_INTENSITY / 2), _CSF_INTENSITY).astype(np.float32)
    csf_level = _sharpened(filled, grid, sigma=2.0, gain=1.6)
    wm_level = _sharpened((white - grey) / 255.0, grid, sigma=1.5, gain=0.8)
    ventricle = _ventricles(filled, outside, grid)
    detail = _detail(filled, grey, white, brain, grid)
    volumes = np.stack([csf_level, wm_level, detail, outside, ventricle])
    width, depth, height = (float(n) for n in high - low)
    return BrainTemplate(grid, volumes, _drift(ventricle, grid), (width, depth, height))


def sample(volumes: FloatVolume, grid: Grid, points: FloatVolume) -> FloatVolume:
    """Sample (C, X, Y, Z) on `grid` linearly at world `points` (3, I, J, K) in mm; the border value goes on outside."""
    origin, spacing = np.asarray(grid.origin, np.float32), np.asarray(grid.spacing, np.float32)
    size = np.asarray([max(n - 1, 1) for n in grid.shape], np.float32)
    scale, shift = 2 / (spacing * size), 2 * origin / (spacing * size) + 1
    # grid_sample wants the last axis first.
    where = np.stack([points[axis] * scale[axis] - shift[axis] for axis in (2, 1, 0)], axis=-1)
    sampled = functional.grid_sample(
        torch.from_numpy(volumes)[None],
        torch.from_numpy(np.ascontiguousarray(where, dtype=np.float32))[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    array: FloatVolume = sampled[0].numpy()
    return array


def _read(kind: str) -> FloatVolume:
    """Return a volume of the template (X, Y, Z), 0..255, 1 mm."""
    image = nibabel.Nifti1Image.from_filename(_folder() / _FILE.format(kind))
    return np.asarray(image.dataobj, dtype=np.float32)


def _about(volume: FloatVolume, low: _Triple, high: _Triple, spacing: float) -> FloatVolume:
    """Return the brain's box with a margin, resampled to about `spacing` mm."""
    box = volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    padded = np.pad(box, _MARGIN_MM)
    return resize(padded, [round((n - 1) / spacing) + 1 for n in padded.shape])


def _folder() -> Path:
    # find_spec does not import nilearn, which would take seconds.
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise InputError("the ICBM152 templates are missing", remedy="install nilearn 0.14, whose wheel ships them")
    folder = Path(spec.origin).parent / "datasets" / "data"
    if not (folder / _FILE.format("t1")).is_file():
        raise InputError("this version of nilearn ships no ICBM152 templates", remedy="install nilearn 0.14")
    return folder


def _grid_about(fine: _Triple, shape: tuple[int, ...], centre: npt.NDArray[np.float64]) -> Grid:
    """Return the grid whose corner voxels lie on the corners of a 1 mm grid, with `centre` (voxels) as origin."""
    x, y, z = (float((n - 1) / (m - 1)) for n, m in zip(fine, shape, strict=True))
    right, front, top = (float(-c) for c in centre)
    return Grid((shape[0], shape[1], shape[2]), (x, y, z), (right, front, top))


def _outside(brain: npt.NDArray[np.bool_], grid: Grid) -> FloatVolume:
    """Return the signed distance to the brain closed by a ball of 7 mm: the skull does not follow the sulci.

    The surface is smooth, so a lattice of half the resolution holds it.
    """
    coarse = resize(brain.astype(np.float32), [(n + 1) // 2 for n in brain.shape]) > 0.5
    step = [s * (n - 1) / (m - 1) for s, n, m in zip(grid.spacing, brain.shape, coarse.shape, strict=True)]
    grown = ndimage.distance_transform_edt(~coarse, sampling=step) <= _CLOSING_MM
    closed = ndimage.distance_transform_edt(grown, sampling=step) > _CLOSING_MM
    outer = ndimage.distance_transform_edt(~closed, sampling=step)
    inner = ndimage.distance_transform_edt(closed, sampling=step)
    distance = ndimage.gaussian_filter((outer - inner).astype(np.float32), 0.8)
    return resize(distance, brain.shape)


def _sharpened(volume: FloatVolume, grid: Grid, *, sigma: float, gain: float) -> FloatVolume:
    return volume + gain * (volume - _blurred(volume, grid, sigma))


def _detail(
    t1: FloatVolume, grey: FloatVolume, white: FloatVolume, brain: npt.NDArray[np.bool_], grid: Grid
) -> FloatVolume:
    """Return what the tissue fractions do not explain of the template's T1, relative to the tissue's mean."""
    fluid = np.clip(255.0 - grey - white, 0, None)
    design = np.stack([grey, white, fluid], axis=-1)[brain] / 255.0
    weights, *_ = np.linalg.lstsq(design, t1[brain], rcond=None)
    expected = design @ weights
    residual = np.zeros(t1.shape, np.float32)
    residual[brain] = (t1[brain] - expected) / np.maximum(expected, 100.0)
    # At the fluid's edge the residual is partial volume, which the simulator makes itself.
    solid = _blurred((np.clip(1.2 - fluid / 60.0, 0, 1) * brain).astype(np.float32), grid, 1.0)
    detail: FloatVolume = np.clip(residual * solid, -0.25, 0.25)
    return detail


def _ventricles(t1: FloatVolume, outside: FloatVolume, grid: Grid) -> FloatVolume:
    """Return the probability of a ventricle: fluid deep in the brain, in its largest connected part."""
    fluid = (t1 < 115.0) & (outside < -22.0)
    parts, count = ndimage.label(fluid)
    sizes = ndimage.sum_labels(fluid, parts, np.arange(1, count + 1))
    largest = parts == int(np.argmax(sizes)) + 1
    return _blurred(largest.astype(np.float32), grid, 1.0)


def _drift(ventricle: FloatVolume, grid: Grid) -> FloatVolume:
    """Return the outward field around the ventricles, 1 at its peak."""
    potential = _blurred(ventricle, grid, 8.0)
    field = -np.stack([np.gradient(potential, step, axis=axis) for axis, step in enumerate(grid.spacing)])
    peak = float(np.sqrt((field**2).sum(0)).max())
    drift: FloatVolume = (field / peak).astype(np.float32)
    return drift


def _blurred(volume: FloatVolume, grid: Grid, sigma: float) -> FloatVolume:
    """Filter with a Gaussian of `sigma` mm."""
    blurred: FloatVolume = ndimage.gaussian_filter(volume, [sigma / step for step in grid.spacing], truncate=3.0)
    return blurred
