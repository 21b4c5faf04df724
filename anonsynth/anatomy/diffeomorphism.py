"""Random diffeomorphisms: anatomy that bends, stretches and never tears.

A smooth stationary velocity field is integrated by scaling and squaring (Arsigny et al. 2006, MICCAI; Ashburner 2007,
NeuroImage 38:95-113). The determinant of the Jacobian is then checked at every corner of every lattice cell, and the
velocity is weakened until it is positive everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.fields import multiscale_field
from anonsynth.anatomy.templates import sample
from anonsynth.cohort.geometry import FloatVolume, Grid

__all__ = ["Affine", "Warp", "grid_points", "jacobian_determinants", "random_affine", "random_warp"]

SCALES_MM: tuple[tuple[float, float], ...] = ((34.0, 1.0), (17.0, 0.55), (9.0, 0.22))
"""(width of the filter in mm, weight): overall shape, lobes, gyri."""
LEAST_JACOBIAN = 0.15
"""A cell may shrink to this fraction of its volume, never further."""
_SQUARINGS = 6
_WEAKENING = 0.8


@dataclass(frozen=True)
class Warp:
    """A diffeomorphism x → x + u(x) of the world.

    Attributes:
        lattice: Where the displacement is known; linear between, constant beyond.
        displacement: (3, X, Y, Z) float32, mm.
        strength: Mean length of the displacement over the lattice, mm.
        least_jacobian: Smallest determinant of the Jacobian over all corners of all cells; positive.
        weakened: How often the velocity was weakened to keep it positive.
    """

    lattice: Grid
    displacement: FloatVolume
    strength: float
    least_jacobian: float
    weakened: int

    def __call__(self, points: FloatVolume) -> FloatVolume:
        """Move world points (3, I, J, K), mm."""
        return points + sample(self.displacement, self.lattice, points)


@dataclass(frozen=True)
class Affine:
    """x → matrix · x + offset; `matrix` is (3, 3) with a positive determinant, `offset` (3,) in mm."""

    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    def __call__(self, points: FloatVolume) -> FloatVolume:
        """Move world points (3, I, J, K), mm."""
        moved: FloatVolume = np.tensordot(self.matrix.astype(np.float32), points, axes=1)
        moved += self.offset.astype(np.float32)[:, None, None, None]
        return moved


def grid_points(grid: Grid) -> FloatVolume:
    """Return the world positions (3, X, Y, Z) of a grid's voxels, mm."""
    axes = [o + s * np.arange(n) for o, s, n in zip(grid.origin, grid.spacing, grid.shape, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def random_warp(
    rng: np.random.Generator,
    lattice: Grid,
    *,
    strength: float,
    scales: tuple[tuple[float, float], ...] = SCALES_MM,
    drift: FloatVolume | None = None,
) -> Warp:
    """Draw a diffeomorphism.

    Args:
        rng: Where the randomness comes from.
        lattice: Where it is computed; a spacing of about 4 mm is fine enough for the default scales.
        strength: Mean length of the random velocity, mm; about the mean displacement.
        scales: (width in mm, weight) of the random velocity.
        drift: (3, X, Y, Z) velocity in mm that is added, such as the enlargement of the ventricles.
    """
    noise = [multiscale_field(lattice.shape, lattice.spacing, scales, rng) for _ in range(3)]
    velocity = np.stack(noise)
    velocity *= np.float32(strength / _mean_length(velocity))
    if drift is not None:
        velocity = velocity + drift
    weakened = 0
    while True:
        displacement = _exponential(velocity, lattice)
        least = float(jacobian_determinants(displacement, lattice.spacing).min())
        if least > LEAST_JACOBIAN:
            return Warp(lattice, displacement, _mean_length(displacement), least, weakened)
        velocity, weakened = velocity * np.float32(_WEAKENING), weakened + 1


def random_affine(rng: np.random.Generator, *, scale: float = 1.0) -> Affine:
    """Draw a head's size (±6 %, ±3 % per axis), pose (up to ±7°, ±4 mm) and shear (±0.03) around a mean scale.

    The affine pulls: points of the subject's world go to the template's, so a factor below 1 is a larger head.
    """
    sizes = scale * np.exp(np.clip(rng.normal(0, 0.03), -0.06, 0.06) + np.clip(rng.normal(0, 0.015, 3), -0.03, 0.03))
    pitch, roll, yaw = np.deg2rad(np.clip(rng.normal(0, 3.0, 3), -7, 7))
    shear = np.eye(3) + np.triu(np.clip(rng.normal(0, 0.012, (3, 3)), -0.03, 0.03), k=1)
    matrix = _rotation(pitch, 0) @ _rotation(roll, 1) @ _rotation(yaw, 2) @ shear @ np.diag(sizes)
    return Affine(matrix, np.clip(rng.normal(0, 1.5, 3), -4, 4))


def jacobian_determinants(displacement: FloatVolume, spacing: tuple[float, float, float]) -> FloatVolume:
    """Return the determinant of the Jacobian of x + u(x) at the corners of all cells.

    Within a cell the linear interpolation's derivative along an axis is a mixture of the differences along the cell's
    parallel edges, so the corners are where it is most extreme in each axis.

    Args:
        displacement: (3, X, Y, Z) mm.
        spacing: Lattice spacing, mm.

    Returns:
        (8, X-1, Y-1, Z-1) float32; 1 is no change of volume.
    """
    corners = [_corner_determinant(displacement, spacing, corner) for corner in product((0, 1), repeat=3)]
    return np.stack(corners)


def _corner_determinant(
    displacement: FloatVolume, spacing: tuple[float, float, float], corner: tuple[int, ...]
) -> FloatVolume:
    columns = []
    for axis in range(3):
        step = np.diff(displacement, axis=axis + 1) / np.float32(spacing[axis])
        # The edges along `axis` that end in this corner of each cell.
        for other in set(range(3)) - {axis}:
            keep = slice(corner[other], step.shape[other + 1] - 1 + corner[other])
            step = step[(slice(None),) * (other + 1) + (keep,)]
        columns.append([step[row] + np.float32(row == axis) for row in range(3)])
    (a, d, g), (b, e, h), (c, f, i) = columns
    determinant: FloatVolume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return determinant


def _exponential(velocity: FloatVolume, lattice: Grid) -> FloatVolume:
    """Integrate a stationary velocity field over unit time by scaling and squaring."""
    points = grid_points(lattice)
    displacement = velocity / np.float32(2**_SQUARINGS)
    for _ in range(_SQUARINGS):
        displacement = displacement + sample(displacement, lattice, points + displacement)
    return displacement


def _mean_length(field: FloatVolume) -> float:
    return float(np.sqrt((field**2).sum(0)).mean())


def _rotation(angle: float, axis: int) -> npt.NDArray[np.float64]:
    """Return the right-handed rotation by `angle` (radians) about a coordinate axis."""
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix
