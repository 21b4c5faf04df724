"""Gliomas: an irregular core with a rim and necrosis, oedema that follows white matter, anatomy pushed aside.

Volumes follow what is reported of gliomas at diagnosis: log-normal, 5 to 120 mL with oedema (Bakas et al. 2017, Sci
Data 4:170117). Oedema advances faster through white than grey matter (Swanson et al. 2000, Cell Prolif 33:317-329),
which a distance weighted by tissue imitates. A low-grade tumour does not enhance and has no rim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.anatomy.fields import multiscale_field
from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume

__all__ = ["ENHANCING", "NECROSIS", "OEDEMA", "TumourPlan", "TumourSite", "draw_plan", "grow_tumour", "push_aside"]

OEDEMA, ENHANCING, NECROSIS = 4, 5, 6
"""Values of the compartments in the label map; see `anonsynth.cohort.model.BRAIN_LABELS`."""

LEAST_ML, MOST_ML = 5.0, 120.0
_MEDIAN_ML, _SPREAD = 42.0, 0.75
_LOW_GRADE = 0.3
_MOST_PUSH = 0.42
"""Largest push as a fraction of its radius; the radial map stays invertible below 0.6."""
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TumourPlan:
    """What will grow.

    Attributes:
        centre: World position, mm.
        whole_ml: Volume with oedema, mL.
        core_fraction: Core (rim and necrosis) as a fraction of the whole volume; of a low-grade tumour its cyst, or 0.
        necrosis_fraction: Necrosis as a fraction of the core.
        enhancing: Whether there is a rim that takes up contrast medium.
        push: Displacement of the anatomy at the edge, mm.
        stretch: Relative radii along the axes, product 1.
    """

    centre: tuple[float, float, float]
    whole_ml: float
    core_fraction: float
    necrosis_fraction: float
    enhancing: bool
    push: float
    stretch: tuple[float, float, float]

    @property
    def radius(self) -> float:
        """Radius of a ball of half the whole volume, mm: where the push is strongest."""
        return float((0.5 * self.whole_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3))


@dataclass(frozen=True)
class TumourSite:
    """The anatomy a tumour grows in, on one grid.

    Attributes:
        grid: The grid, mm.
        tissue: (X, Y, Z) where a tumour may grow: brain without ventricles, on the tumour's side of the midline.
        fluid: (X, Y, Z) probability of fluid.
        white: (X, Y, Z) probability of white matter.
    """

    grid: Grid
    tissue: _Mask
    fluid: FloatVolume
    white: FloatVolume


def draw_plan(centre: tuple[float, float, float], rng: np.random.Generator) -> TumourPlan:
    """Draw size, grade and shape of a tumour at `centre` (mm)."""
    whole = float(np.clip(_MEDIAN_ML * np.exp(_SPREAD * rng.standard_normal()), LEAST_ML, MOST_ML))
    enhancing = bool(rng.random() > _LOW_GRADE)
    if enhancing:
        core, necrosis = rng.uniform(0.2, 0.6), rng.uniform(0.05, 0.65)
    else:
        core, necrosis = (rng.uniform(0.05, 0.2), 1.0) if rng.random() < 0.35 else (0.0, 0.0)
    stretch = np.exp(rng.normal(0, 0.18, 3))
    stretch /= np.cbrt(np.prod(stretch))
    plan = TumourPlan(
        centre=centre,
        whole_ml=whole,
        core_fraction=float(core),
        necrosis_fraction=float(necrosis),
        enhancing=enhancing,
        push=0.0,
        stretch=(float(stretch[0]), float(stretch[1]), float(stretch[2])),
    )
    return replace(plan, push=float(min(rng.uniform(0.1, 0.4) * plan.radius, 9.0)))


def push_aside(points: FloatVolume, plan: TumourPlan) -> FloatVolume:
    """Pull world points (3, I, J, K) towards the tumour's centre, so that the anatomy is pushed away from it.

    r → r - push · (r/R) · exp((1 - r²/R²) / 2): strongest at the radius R, without effect far away, and invertible
    because its derivative is at least 1 - push · e^½ / R > 0.
    """
    radius = max(plan.radius, plan.push / _MOST_PUSH)
    offset = points - np.asarray(plan.centre, np.float32)[:, None, None, None]
    squared = (offset**2).sum(0) / np.float32(radius**2)
    shrink = np.float32(plan.push / radius) * np.exp(np.float32(0.5) * (1 - squared))
    pulled: FloatVolume = points - offset * shrink
    return pulled


def grow_tumour(plan: TumourPlan, site: TumourSite, rng: np.random.Generator) -> LabelVolume:
    """Grow the tumour; returns (X, Y, Z) uint8 with `OEDEMA`, `ENHANCING`, `NECROSIS` and 0 elsewhere.

    The result is connected and lies within `site.tissue`; it is smaller than planned where there is no room.
    """
    label = np.zeros(site.grid.shape, np.uint8)
    window = _window(plan, site.grid)
    part = TumourSite(_cropped(site.grid, window), site.tissue[window], site.fluid[window], site.white[window])
    if not part.tissue.any():
        return label
    whole_voxels = plan.whole_ml * 1000 / site.grid.voxel_volume
    seed = _core(plan, part, max(0.25, plan.core_fraction) * whole_voxels, rng)
    if not seed.any():
        return label
    compartments = np.zeros(part.grid.shape, np.uint8)
    compartments[_spread(seed, part, whole_voxels, rng)] = OEDEMA
    core = seed if plan.enhancing else _deepest(seed, part.grid, plan.core_fraction * whole_voxels, rng)
    compartments[core] = ENHANCING if plan.enhancing else NECROSIS
    if plan.enhancing:
        compartments[_deepest(core, part.grid, plan.necrosis_fraction * core.sum(), rng)] = NECROSIS
    label[window] = compartments
    return label


def _core(plan: TumourPlan, site: TumourSite, voxels: float, rng: np.random.Generator) -> _Mask:
    """Return a lumpy ellipsoid of about `voxels` voxels around the plan's centre, inside the tissue."""
    offsets = _offsets(plan, site.grid)
    radius = np.sqrt(sum((offset / s) ** 2 for offset, s in zip(offsets, plan.stretch, strict=True)))
    lumps = multiscale_field(site.grid.shape, site.grid.spacing, ((9.0, 1.0), (4.0, 0.5), (2.0, 0.2)), rng)
    return _connected(_smallest(radius * np.exp(0.27 * lumps), site.tissue, voxels), site, plan)


def _spread(core: _Mask, site: TumourSite, voxels: float, rng: np.random.Generator) -> _Mask:
    """Return the core with the oedema around it, `voxels` together: near the core and far along white matter."""
    distance = ndimage.distance_transform_edt(~core, sampling=site.grid.spacing)
    white = ndimage.gaussian_filter(site.white, [1.2 / step for step in site.grid.spacing])
    ragged = multiscale_field(site.grid.shape, site.grid.spacing, ((7.0, 1.0), (3.0, 0.5)), rng)
    cost = distance * (1 + 3.0 * (1 - white)) * np.exp(0.35 * ragged)
    room = (site.tissue & (site.fluid < 0.5)) | core
    grown = _smallest(np.where(core, -1.0, cost), room, max(voxels, core.sum()))
    grown = ndimage.binary_opening(grown, iterations=1) | core
    parts, _ = ndimage.label(grown)
    reached: _Mask = np.isin(parts, np.unique(parts[core]))
    return reached


def _deepest(mask: _Mask, grid: Grid, voxels: float, rng: np.random.Generator) -> _Mask:
    """Return the innermost `voxels` voxels of a mask, with an irregular edge and at least one voxel of rim."""
    padded = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=grid.spacing)[1:-1, 1:-1, 1:-1]
    ragged = multiscale_field(grid.shape, grid.spacing, ((5.0, 1.0), (2.5, 0.5)), rng)
    inner = mask & (depth > max(grid.spacing[:2]))
    return _smallest(-depth * np.exp(0.32 * ragged), inner, voxels)


def _smallest(cost: npt.NDArray[np.floating], allowed: _Mask, voxels: float) -> _Mask:
    """Return the allowed voxels of least cost, at most `voxels` of them."""
    values = cost[allowed]
    count = min(round(voxels), values.size)
    if count < 1:
        return np.zeros_like(allowed)
    threshold = np.partition(values, count - 1)[count - 1]
    chosen: _Mask = allowed & (cost <= threshold)
    return chosen


def _connected(mask: _Mask, site: TumourSite, plan: TumourPlan) -> _Mask:
    """Return the part of the mask nearest to the plan's centre."""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    distance = sum(offset**2 for offset in _offsets(plan, site.grid))
    nearest = np.where(mask, distance, np.inf).argmin()
    found: _Mask = parts == parts.flat[nearest]
    return found


def _offsets(plan: TumourPlan, grid: Grid) -> list[FloatVolume]:
    """Return the offset from the plan's centre along each axis, mm, ready to broadcast."""
    axes = [
        (origin + step * np.arange(n) - centre).astype(np.float32)
        for origin, step, n, centre in zip(grid.origin, grid.spacing, grid.shape, plan.centre, strict=True)
    ]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def _window(plan: TumourPlan, grid: Grid) -> tuple[slice, slice, slice]:
    """Return the box about the tumour, wide enough for its oedema."""
    reach = 2.1 * (plan.whole_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    slices = []
    for axis in range(3):
        middle = (plan.centre[axis] - grid.origin[axis]) / grid.spacing[axis]
        half = reach / grid.spacing[axis]
        slices.append(slice(max(0, int(middle - half)), max(1, min(grid.shape[axis], int(middle + half) + 2))))
    return slices[0], slices[1], slices[2]


def _cropped(grid: Grid, window: tuple[slice, slice, slice]) -> Grid:
    x, y, z = (o + s * part.start for o, s, part in zip(grid.origin, grid.spacing, window, strict=True))
    nx, ny, nz = (part.stop - part.start for part in window)
    return Grid((nx, ny, nz), grid.spacing, (x, y, z))
