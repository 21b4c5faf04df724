"""What a drawn label map is looked at for: labels that are there and whole, no fold, how far it is from public maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume

Affine = npt.NDArray[np.float64]
"""(3, 4): from mm in the draw's world to mm in the public map's."""
WHOLE = np.ones((3, 3, 3))
"""Voxels that share a corner are connected."""
EVERY = 2
"""Draws are compared with public maps at every second voxel of each axis."""


@dataclass(frozen=True, slots=True)
class Part:
    """A label, or several taken as one, and what a draw may hold of it.

    Attributes:
        name: What it is.
        values: Of the label map.
        least_ml: Least volume, mL.
        most_ml: Most volume, mL.
        least_piece: Least share of its voxels in its largest piece.
        needed: Whether it has to be there; what need not be and is not there is not looked at.
    """

    name: str
    values: tuple[int, ...]
    least_ml: float
    most_ml: float
    least_piece: float
    needed: bool = True


@dataclass(frozen=True, slots=True)
class PartSeen:
    """A part of one draw: its volume in mL, and the share of its voxels in its largest piece (0 if it is not there)."""

    ml: float
    piece: float


@dataclass(frozen=True, slots=True)
class PublicMap:
    """A public label map as it came.

    Attributes:
        label: (X, Y, Z) uint8.
        grid: Its grid.
    """

    label: LabelVolume
    grid: Grid


def look_at(label: LabelVolume, voxel_ml: float, parts: Sequence[Part]) -> dict[str, PartSeen]:
    """Measure the parts of a label map (X, Y, Z)."""
    seen = {}
    for part in parts:
        mask = np.isin(label, part.values)
        seen[part.name] = PartSeen(float(mask.sum()) * voxel_ml, largest_share(mask))
    return seen


def wrong_with(seen: dict[str, PartSeen], parts: Sequence[Part]) -> list[str]:
    """Return what is empty, too small, too large or torn: `white matter: torn`, and so on."""
    wrong = []
    for part in parts:
        found = seen[part.name]
        if found.ml == 0:
            wrong += [f"{part.name}: empty"] * part.needed
            continue
        if not part.least_ml <= found.ml <= part.most_ml:
            wrong.append(f"{part.name}: {'small' if found.ml < part.least_ml else 'large'}")
        if found.piece < part.least_piece:
            wrong.append(f"{part.name}: torn")
    return wrong


def largest_share(mask: npt.NDArray[np.bool_]) -> float:
    """Return the share of a mask's voxels in its largest piece; 0 for an empty mask."""
    pieces, count = ndimage.label(mask, structure=WHOLE)
    if count == 0:
        return 0.0
    sizes = np.bincount(pieces.ravel())[1:]
    return float(sizes.max() / sizes.sum())


def hole_share(mask: npt.NDArray[np.bool_]) -> float:
    """Return the volume that a mask encloses without holding it, as a share of its own."""
    pieces, _ = ndimage.label(~np.pad(mask, 1))  # here voxels have to share a face, or the outside would seep in
    sizes = np.bincount(pieces.ravel())[1:]
    return float((sizes.sum() - sizes[pieces[0, 0, 0] - 1]) / max(int(mask.sum()), 1))


def least_jacobian(places: FloatVolume, spacing: tuple[float, float, float]) -> float:
    """Return the least determinant of the Jacobian of places (3, X, Y, Z), by differences between neighbours.

    All there is between the voxel's place and the public map's counts: warp, affine, and what a tumour pushes aside.
    """
    corner = (slice(None), slice(-1), slice(-1), slice(-1))
    rows = []
    for axis, step in enumerate(spacing):
        ahead = tuple(slice(1, None) if other == axis + 1 else cut for other, cut in enumerate(corner))
        rows.append((places[ahead] - places[corner]) / np.float32(step))
    (a, b, c), (d, e, f), (g, h, i) = rows
    return float((a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)).min())


def affine_of(places: FloatVolume, fine: Grid, inside: npt.NDArray[np.bool_]) -> tuple[Affine, float]:
    """Fit an affine to places by least squares; return it, and the mean distance in mm that it leaves.

    Args:
        places: (3, X, Y, Z) mm.
        fine: Their grid.
        inside: (X, Y, Z) which of them count.
    """
    voxels = np.argwhere(inside)[::7]
    world = voxels * np.array(fine.spacing) + np.array(fine.origin)
    there = places[(slice(None), *voxels.T)].T.astype(np.float64)
    design = np.column_stack([world, np.ones(len(world))])
    fitted, *_ = np.linalg.lstsq(design, there, rcond=None)
    left = np.linalg.norm(design @ fitted - there, axis=1)
    return np.ascontiguousarray(fitted.T), float(left.mean())


def affine_by_moments(
    mask: npt.NDArray[np.bool_], grid: Grid, other: npt.NDArray[np.bool_], other_grid: Grid
) -> Affine:
    """Return the affine that lays middle and spread along each axis of one mask on those of another."""
    (middle, spread), (there, wide) = _moments(mask, grid), _moments(other, other_grid)
    scale = wide / spread
    return np.column_stack([np.diag(scale), there - scale * middle])


def closest(
    label: LabelVolume, grid: Grid, public: Sequence[PublicMap], affines: Sequence[Affine], values: Sequence[int]
) -> float:
    """Return 1 − Dice to the nearest public map, each laid on the draw by its affine; Dice is the mean over values."""
    cut = tuple(slice(None, None, EVERY) for _ in range(3))
    seen = label[cut]
    axes = [o + s * EVERY * np.arange(n) for o, s, n in zip(grid.origin, grid.spacing, seen.shape, strict=True)]
    world = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    nearest = 1.0
    for known, affine in zip(public, affines, strict=True):
        there = affine[:, :3] @ world + affine[:, 3:]
        voxels = (there - np.array(known.grid.origin)[:, None]) / np.array(known.grid.spacing)[:, None]
        index = np.rint(voxels).astype(np.int64)
        within = ((index >= 0) & (index < np.array(known.grid.shape)[:, None])).all(0)
        moved = np.where(within, known.label[tuple(np.where(within, index, 0))], 0).reshape(seen.shape)
        nearest = min(nearest, 1 - mean_dice(seen, moved, values))
    return nearest


def mean_dice(one: LabelVolume, other: LabelVolume, values: Sequence[int]) -> float:
    """Return the mean Dice over label values; a value that neither holds counts as 1."""
    found = []
    for value in values:
        first, second = one == value, other == value
        total = int(first.sum() + second.sum())
        found.append(2 * int((first & second).sum()) / total if total else 1.0)
    return float(np.mean(found))


def _moments(mask: npt.NDArray[np.bool_], grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    places = np.argwhere(mask) * np.array(grid.spacing) + np.array(grid.origin)
    return places.mean(0), np.maximum(places.std(0), 1e-6)
