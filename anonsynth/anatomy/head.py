"""What lies around the brain: fluid, skull, scalp and a face, each of its own uneven thickness.

Only the impression counts: the layers follow the intracranial surface at a distance that wanders, the face and neck
are a blob in front and below. No face can be recognised in it, and none was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anonsynth.anatomy.fields import sigmoid, smooth_field
from anonsynth.cohort.geometry import FloatVolume, Grid

__all__ = ["HeadLayers", "head_layers"]

_EDGE_MM = 0.6
"""Half-width of the transition between layers."""


@dataclass(frozen=True)
class HeadLayers:
    """Probabilities (X, Y, Z), 0 to 1, of what lies outside the brain's own surface; they add up to at most 1.

    Attributes:
        fluid: Subarachnoid fluid.
        skull: Bone.
        scalp: Scalp, muscle and fat, face and neck.
    """

    fluid: FloatVolume
    skull: FloatVolume
    scalp: FloatVolume


def head_layers(outside: FloatVolume, template_points: FloatVolume, grid: Grid, rng: np.random.Generator) -> HeadLayers:
    """Draw the layers around a brain.

    Args:
        outside: (X, Y, Z) signed distance to the intracranial surface, mm, positive outside.
        template_points: (3, X, Y, Z) position of each voxel in the template's world, mm.
        grid: The voxels' grid.
        rng: Where the randomness comes from.
    """
    inner = _thickness(rng.uniform(0.8, 2.2), 0.35, grid, rng)
    table = inner + _thickness(rng.uniform(4.5, 7.5), 0.15, grid, rng)
    skin = table + _thickness(rng.uniform(4.0, 8.0), 0.16, grid, rng)
    flesh = np.minimum(outside - skin, _face(template_points, rng) + 2.0 * _wander(8.0, grid, rng))
    brain_side = sigmoid(-outside / np.float32(_EDGE_MM))
    within_fluid = sigmoid((inner - outside) / _EDGE_MM)
    within_skull = sigmoid((table - outside) / _EDGE_MM)
    within_head = np.maximum(sigmoid(-flesh / _EDGE_MM), within_skull)
    return HeadLayers(
        fluid=np.clip(within_fluid - brain_side, 0, 1),
        skull=np.clip(within_skull - within_fluid, 0, 1),
        scalp=np.clip(within_head - within_skull, 0, 1),
    )


def _wander(sigma: float, grid: Grid, rng: np.random.Generator) -> FloatVolume:
    """Return a smooth field of standard deviation 1 and width `sigma` in mm."""
    return smooth_field(grid.shape, [sigma / step for step in grid.spacing], rng)


def _thickness(mean: float, variation: float, grid: Grid, rng: np.random.Generator) -> FloatVolume:
    """Return a positive thickness in mm that wanders by the relative `variation` over centimetres."""
    wander = _wander(22.0, grid, rng) + 0.15 * _wander(5.0, grid, rng)
    thickness: FloatVolume = np.float32(mean) * np.exp(np.float32(variation) * wander)
    return thickness


def _face(points: FloatVolume, rng: np.random.Generator) -> FloatVolume:
    """Return a rough signed distance (mm, negative inside) to a face and neck below the brain."""
    jitter = rng.uniform(0.92, 1.08, 6)
    face = _ellipsoid(points, (0.0, 38.0, -72.0), (56 * jitter[0], 52 * jitter[1], 62 * jitter[2]))
    neck = _ellipsoid(points, (0.0, -22.0, -110.0), (58 * jitter[3], 62 * jitter[4], 80 * jitter[5]))
    distance: FloatVolume = np.minimum(face, neck).astype(np.float32)
    return distance


def _ellipsoid(points: FloatVolume, centre: tuple[float, ...], radii: tuple[float, ...]) -> FloatVolume:
    unit = [(points[axis] - centre[axis]) / radii[axis] for axis in range(3)]
    distance: FloatVolume = (np.sqrt(sum(part**2 for part in unit)) - 1) * min(radii)
    return distance
