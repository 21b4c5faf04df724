"""Alignment of one scan with many: mirror, rotation, shift and scale, all candidates at once.

Gauss-Newton on the sum of squared differences in its inverse compositional form (Baker & Matthews 2004, IJCV
56:221-255): the query is the template, so its gradient and the 7 × 7 normal matrix are computed once and serve every
candidate and every iteration. Registration libraries take one pair at a time; here a dozen candidates for each of a
thousand scans are laid on each other at once, with no more than the seven parameters that a moved copy needs. What is
aligned are edges (`views`), so contrast plays no part in it.

Positions are in mm from the middle of the view; a pose maps positions of the query to positions of the candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional

from anonsynth.cohort.geometry import FloatVolume

__all__ = ["IDENTITY", "SIZE_HELD", "Matrix", "Pose", "Resampler", "halving", "refined", "smoothed"]

Levels = tuple[tuple[float, int], ...]
COARSE: Levels = ((2.0, 6), (1.0, 6))
"""(width of the smoothing in voxels, iterations) of what is done at half the resolution: most of the way."""
FINE: Levels = ((0.5, 5),)
LEAST_AXIS = 6
"""Fewer voxels than this along an axis are not halved."""
LARGEST_TURN = 25.0
LARGEST_SCALE = 1.35
LARGEST_SHIFT = 1 / 3
"""As a share of each axis."""
LARGEST_GAIN = 2.0
DAMPING = 1e-3
SIZE_HELD, SIZE_HELD_LAST = 1.0, 0.1
"""How firmly the size is held: it is what runs away first."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pose:
    """How a query lies on a candidate: the candidate is mirrored or not, then position x of the query is at A x + b.

    Attributes:
        matrix: (3, 3) A, rotation times scale.
        offset: (3,) b, mm.
        mirrored: Whether the candidate is first reversed along the left-right axis.
    """

    matrix: Matrix
    offset: Matrix
    mirrored: bool = False

    @property
    def degrees(self) -> float:
        """Angle of the rotation."""
        scale = np.cbrt(np.linalg.det(self.matrix))
        return float(np.rad2deg(Rotation.from_matrix(self.matrix / scale).magnitude()))

    @property
    def scale(self) -> float:
        """Candidate's size over the query's."""
        return float(np.cbrt(np.linalg.det(self.matrix)))


IDENTITY = Pose(np.eye(3), np.zeros(3))


class Resampler:
    """Reads volumes of one shape at moved positions.

    Args:
        shape: (X, Y, Z) voxels.
        spacing: Voxel size, mm.
    """

    def __init__(self, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
        self.shape, self.spacing = shape, spacing
        lines = [(torch.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
        self.points = torch.stack(torch.meshgrid(*lines, indexing="ij")).reshape(3, -1)
        self._half = torch.tensor([max((n - 1) / 2, 0.5) * s for n, s in zip(shape, spacing, strict=True)])

    def __call__(self, volumes: torch.Tensor, matrices: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Return (B, C, X, Y, Z) `volumes` read at A x + b; 0 outside.

        Args:
            volumes: (B, C, X, Y, Z) or (1, C, X, Y, Z) for all.
            matrices: (B, 3, 3).
            offsets: (B, 3) mm.
        """
        return self.at(volumes, self.moved(matrices, offsets))

    def moved(self, matrices: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Return the (B, 3, X, Y, Z) positions A x + b of all voxels, mm."""
        return (matrices @ self.points + offsets[:, :, None]).reshape(len(matrices), 3, *self.shape)

    def at(self, volumes: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return (B, C, X, Y, Z) `volumes` read at (B, 3, X, Y, Z) positions in mm; 0 outside."""
        grid = (positions / self._half[:, None, None, None]).flip(1).permute(0, 2, 3, 4, 1)
        source = volumes.expand(len(positions), *volumes.shape[1:])
        return functional.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=True)

    def gradient(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the (3, C, X, Y, Z) derivatives of (C, X, Y, Z) per mm."""
        return torch.stack(torch.gradient(volume, spacing=list(self.spacing), dim=(1, 2, 3)))


def refined(
    query: FloatVolume,
    candidates: FloatVolume,
    starts: list[Pose],
    resampler: Resampler,
    ground: FloatVolume | None = None,
    *,
    hold_size: float = SIZE_HELD,
    coarse: Levels = COARSE,
    fine: Levels = FINE,
) -> list[Pose]:
    """Improve the poses of a query on its candidates.

    Args:
        query: (C, X, Y, Z).
        candidates: (B, C, X, Y, Z), those that start mirrored already reversed.
        starts: Where to begin, one a candidate.
        resampler: For volumes of this shape.
        ground: (X, Y, Z) where differences count, in [0, 1]; None for everywhere. A moved copy has lost its rim: were
            that held against the candidate, it would be enlarged until its own rim has left the grid.
        hold_size: How firmly, against what the scans say, the size is held on the first way.
        coarse: Levels at half the resolution.
        fine: Levels at full resolution.

    Returns:
        One pose a candidate; the start itself where the search ran away.
    """
    template, moving = torch.from_numpy(query), torch.from_numpy(candidates)
    weight = torch.ones(1, *resampler.shape) if ground is None else torch.from_numpy(ground)[None]
    matrices = torch.tensor(np.stack([pose.matrix for pose in starts]), dtype=torch.float32)
    offsets = torch.tensor(np.stack([pose.offset for pose in starts]), dtype=torch.float32)
    for levels, half in ((coarse, True), (fine, False)):
        if not levels:
            continue
        halve, reader = halving(resampler) if half else (lambda volumes: volumes, resampler)
        fixed, free, counts = halve(template[None]), halve(moving), halve(weight[None])
        factors = [own / full for own, full in zip(reader.spacing, resampler.spacing, strict=True)]
        for width, iterations in levels:
            x, y, z = (width / factor for factor in factors)
            start, goal = smoothed(free, (x, y, z)), smoothed(fixed, (x, y, z))[0]
            # Squared, because what is smoothed near the rim is mixed with what lies beyond it.
            inner = smoothed(counts, (x, y, z))[0] ** 2
            matrices, offsets = _descend(
                goal, start, inner, matrices, offsets, reader, iterations, hold_size if half else SIZE_HELD_LAST
            )
    ways, shifts = matrices.numpy().astype(np.float64), offsets.numpy().astype(np.float64)
    return [
        Pose(way, shift, start.mirrored) if plausible else start
        for way, shift, start, plausible in zip(ways, shifts, starts, _plausible(ways, shifts, resampler), strict=True)
    ]


def halving(resampler: Resampler) -> tuple[Callable[[torch.Tensor], torch.Tensor], Resampler]:
    """Return what halves the resolution of (B, C, X, Y, Z) along axes that are long enough; the middle stays."""
    factors = [2 if n >= 2 * LEAST_AXIS else 1 for n in resampler.shape]
    # An odd length is padded at both ends by half a voxel's worth: both copies of the border voxel count once.
    pads = [side for n, f in zip(reversed(resampler.shape), reversed(factors), strict=True) for side in (0, n % f)]

    def half(volumes: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool3d(functional.pad(volumes, pads), factors)

    shape = tuple(-(-n // f) for n, f in zip(resampler.shape, factors, strict=True))
    spacing = tuple(s * f for s, f in zip(resampler.spacing, factors, strict=True))
    return half, Resampler(shape, spacing)  # type: ignore[arg-type]


def _descend(
    template: torch.Tensor,
    moving: torch.Tensor,
    weight: torch.Tensor,
    matrices: torch.Tensor,
    offsets: torch.Tensor,
    resampler: Resampler,
    iterations: int,
    hold_size: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    slope = resampler.gradient(template).reshape(3, len(template), -1)
    counts = weight.expand_as(template).reshape(-1)
    jacobian = _jacobian(slope, resampler.points) * counts
    normal = jacobian @ jacobian.T
    hold = hold_size * normal[6, 6]
    normal[6, 6] += hold
    solve = torch.linalg.inv(normal + DAMPING * torch.diag(torch.diagonal(normal)) + 1e-12 * torch.eye(7))
    goal = template.reshape(-1) * counts
    for _ in range(iterations):
        laid = resampler(moving, matrices, offsets).reshape(len(moving), -1) * counts
        # As strong as the query's: a scan has its norm from all of it, of which a moved query shows a part. Without
        # this, candidates are enlarged until they are as strong in that part.
        gain = goal.norm() / laid.norm(dim=1, keepdim=True).clamp(min=1e-12)
        residual = gain.clamp(1 / LARGEST_GAIN, LARGEST_GAIN) * laid - goal
        slopes = residual @ jacobian.T
        slopes[:, 6] += hold * torch.linalg.det(matrices).clamp(min=1e-6).log() / 3
        step = slopes @ solve
        undo = torch.linalg.matrix_exp(_cross(-step[:, :3])) * torch.exp(-step[:, 6])[:, None, None]
        # W ← W ∘ W(step)⁻¹
        matrices = matrices @ undo
        offsets = offsets - (matrices @ step[:, 3:6, None])[:, :, 0]
    return matrices, offsets


def _jacobian(slope: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return the (7, C·V) derivatives of the template by rotation (radians), shift (mm) and log scale.

    Args:
        slope: (3, C, V) derivatives of the template per mm.
        points: (3, V) mm.
    """
    gx, gy, gz = slope
    x, y, z = points
    rows = [gz * y - gy * z, gx * z - gz * x, gy * x - gx * y, gx, gy, gz, gx * x + gy * y + gz * z]
    return torch.stack([row.reshape(-1) for row in rows])


def _cross(vectors: torch.Tensor) -> torch.Tensor:
    """Return the (B, 3, 3) matrices of the cross products with (B, 3) vectors."""
    x, y, z = vectors.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def smoothed(volumes: torch.Tensor, widths: tuple[float, float, float]) -> torch.Tensor:
    """Smooth (B, C, X, Y, Z) by Gaussians of these widths in voxels; at the border their inner part counts.

    A product with a small matrix along each axis: five times faster here than a convolution.
    """
    result = volumes
    for axis, width in zip((2, 3, 4), widths, strict=True):
        result = torch.movedim(torch.movedim(result, axis, -1) @ _kernel(volumes.shape[axis], width), -1, axis)
    return result


def _kernel(size: int, width: float) -> torch.Tensor:
    line = torch.arange(size, dtype=torch.float32)
    kernel = torch.exp(-0.5 * ((line[:, None] - line[None]) / width) ** 2)
    return kernel / kernel.sum(0)


def _plausible(matrices: Matrix, offsets: Matrix, resampler: Resampler) -> npt.NDArray[np.bool_]:
    """Tell for (B, 3, 3) matrices and (B, 3) offsets, mm, whether heads lie like this on each other."""
    finite = np.array(
        [
            bool(np.isfinite(way).all() and np.isfinite(shift).all())
            for way, shift in zip(matrices, offsets, strict=True)
        ]
    )
    known = np.where(finite[:, np.newaxis, np.newaxis], matrices, np.eye(3))
    scale = np.cbrt(np.linalg.det(known))
    sized = (scale >= 1 / LARGEST_SCALE) & (scale <= LARGEST_SCALE)
    # A mirrored or flattened one is not a rotation at all; its size has already ruled it out.
    turns = np.stack([way / size if fits else np.eye(3) for way, size, fits in zip(known, scale, sized, strict=True)])
    turned = np.rad2deg(Rotation.from_matrix(turns).magnitude())
    extent = np.asarray(resampler.shape) * np.asarray(resampler.spacing)
    near = (np.abs(offsets) <= LARGEST_SHIFT * extent).all(axis=1)
    plausible: npt.NDArray[np.bool_] = finite & sized & (turned <= LARGEST_TURN) & near
    return plausible
