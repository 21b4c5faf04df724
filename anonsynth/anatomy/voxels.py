"""From fine to coarse: a voxel is the mean of what it contains, which is where partial volume comes from."""

from __future__ import annotations

import numpy as np

from anonsynth.cohort.geometry import FloatVolume, Grid, LabelVolume

__all__ = ["label_map", "pooled", "refined"]

_FINE_MM = 2.2
"""Voxels longer than this are simulated from shorter ones."""


def refined(grid: Grid) -> tuple[Grid, tuple[int, int, int]]:
    """Return the grid with its long voxels divided, and the number of parts along each axis."""
    fx, fy, fz = (max(1, int(np.ceil(step / _FINE_MM))) for step in grid.spacing)
    nx, ny, nz = grid.shape
    sx, sy, sz = grid.spacing
    spacing = (sx / fx, sy / fy, sz / fz)
    ox, oy, oz = (o - s / 2 + f / 2 for o, s, f in zip(grid.origin, grid.spacing, spacing, strict=True))
    return Grid((nx * fx, ny * fy, nz * fz), spacing, (ox, oy, oz)), (fx, fy, fz)


def pooled(volume: FloatVolume, factors: tuple[int, int, int]) -> FloatVolume:
    """Return the mean over blocks of `factors` voxels of (..., X, Y, Z)."""
    *rest, nx, ny, nz = volume.shape
    fx, fy, fz = factors
    if factors == (1, 1, 1):
        return volume
    blocks = volume.reshape(*rest, nx // fx, fx, ny // fy, fy, nz // fz, fz)
    mean: FloatVolume = blocks.mean(axis=(-5, -3, -1), dtype=np.float32)
    return mean


def label_map(tissue: FloatVolume, factors: tuple[int, int, int]) -> LabelVolume:
    """Return the commonest tissue of each coarse voxel, (9, X, Y, Z) → (X', Y', Z') uint8."""
    label: LabelVolume = pooled(tissue, factors).argmax(axis=0).astype(np.uint8)
    return label
