"""Geometry as a value: a grid is a shape and an affine, in voxels and millimetres, RAS+ world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FloatVolume", "Grid", "LabelVolume"]

FloatVolume = npt.NDArray[np.float32]
"""(X, Y, Z) or (C, X, Y, Z) intensities."""
LabelVolume = npt.NDArray[np.uint8]
"""(X, Y, Z) label values, 0 is background."""


@dataclass(frozen=True, slots=True)
class Grid:
    """An axis-aligned RAS+ voxel grid.

    Attributes:
        shape: Voxels along right, anterior, superior: (X, Y, Z).
        spacing: Voxel size in mm along the same axes.
        origin: World position (mm, RAS+) of the centre of voxel (0, 0, 0).
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse grids that cannot exist."""
        if min(self.shape) < 1:
            msg = f"a grid's shape must be positive, got {self.shape}"
            raise ValueError(msg)
        if not all(np.isfinite(self.spacing)) or min(self.spacing) <= 0:
            msg = f"a grid's spacing must be positive, got {self.spacing}"
            raise ValueError(msg)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """The (4, 4) matrix from voxel indices to RAS+ mm."""
        matrix = np.diag([*self.spacing, 1.0]).astype(np.float64)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def extent(self) -> tuple[float, float, float]:
        """Field of view in mm along each axis."""
        x, y, z = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return (x, y, z)

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm³."""
        return float(np.prod(self.spacing))

    def centred(self) -> Grid:
        """Return the same grid with the world's origin at its centre."""
        x, y, z = (-(n - 1) * s / 2 for n, s in zip(self.shape, self.spacing, strict=True))
        return Grid(self.shape, self.spacing, (x, y, z))
