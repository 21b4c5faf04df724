"""Copied parts: is any region of a scan nearer to one patient's than it should be, however new the rest is.

Windows of a fifth of each axis of a common scan, which overlap by half, are compared with the same place in every
training scan, moved by up to one voxel along an axis and mirrored or not, by their correlation. Each window has its own
nearest patients; a copied lesion, lobe or hemisphere shows in the windows within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.audits.index import Index, IndexGrid
from anonsynth.audits.likeness import joined
from anonsynth.audits.views import View
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["RegionNeighbours", "nearest_regions", "parts_distance"]

SMALLEST = 1e-6
FLAT = 0.05
"""Variance, as a share of the whole scan's, below which a window is taken for flat."""
ALIKE = 0.003
"""Distances are not told apart below that of two windows that differ by so much, as a share of the scan's variance."""
DIMMEST = 0.25
"""A candidate's window of less than this share of the query's variance is not scaled up to it."""
COVERED = 0.5
LEAST_COVERED = 0.25
"""A candidate that covers fewer of the windows counts as near to the others by nothing."""
CHUNK = 64
"""Windows that are compared at a time."""
SHIFTS = tuple(product((0, -1, 1), repeat=3))
STEPS = tuple(shift for shift in SHIFTS if np.abs(shift).sum() <= 1)
"""As it lies, and one voxel along one axis."""


@dataclass(frozen=True, slots=True)
class RegionNeighbours:
    """The nearest patients of each of W windows of a scan, nearest first.

    Attributes:
        distance: (W, K) over the usual distance of that window; inf where there is nobody.
        patient: (W, K) number of the patient in the index's order; -1 where there is nobody.
        together: (2, N) mean log distance of all windows that hold body to each of the N training scans, as far as its
            field of view reaches, the query as it is and mirrored; a scan that was bent is near in all windows, though
            in none by much.
    """

    distance: npt.NDArray[np.float32]
    patient: npt.NDArray[np.int32]
    together: npt.NDArray[np.float32]


def nearest_regions(
    queries: Sequence[FloatVolume],
    bodies: Sequence[FloatVolume],
    present: Sequence[npt.NDArray[np.bool_]],
    index: Index,
    keep: int,
) -> tuple[RegionNeighbours, ...]:
    """Find the nearest patients of every window, reading the index once.

    Args:
        queries: (C, x, y, z) intensities on the index's region grid.
        bodies: (x, y, z) share of each voxel that is body; windows that hold less than half of it have no neighbours:
            what scans share there is air and where it ends.
        present: (C,) modalities of each.
        index: The training scans.
        keep: Patients to keep for each window.
    """
    windows = _windows(index.grid.region_shape, index.grid.window)
    codes = _patient_codes(index)
    variants = [_variants([query, query[:, ::-1]], STEPS) for query in queries]
    scales = [_scale(query) for query in queries]
    found = [
        RegionNeighbours(
            np.full((len(windows), keep), np.inf, np.float32),
            np.full((len(windows), keep), -1, np.int32),
            np.zeros((2, len(index.records)), np.float32),
        )
        for _ in queries
    ]
    usual = [torch.zeros(index.grid.modalities, len(windows)) for _ in queries]
    inside = [body.reshape(-1)[windows.numpy()].mean(1) >= COVERED for body in bodies]
    counts = [np.zeros(len(index.records), np.float32) for _ in queries]
    for block in index.blocks():
        rows = torch.from_numpy(block.region).reshape(len(block.region), index.grid.modalities, -1)
        here = slice(block.first, block.first + len(rows))
        shared = [torch.from_numpy(index.present[View.INTENSITY][here] & p) for p in present]
        starts = np.flatnonzero(np.diff(codes[here], prepend=-1))
        for chunk in _chunks(windows):
            refs = _patches(rows, windows[chunk])
            power = refs.square().sum(3)
            textured = (power.sum(0) > 0).numpy()
            for query, variant in enumerate(variants):
                logs = _distances(_patches(variant, windows[chunk]), refs, power, scales[query]).log()
                if block.first == 0:  # one block stands for all: what is usual must be the same for everybody
                    usual[query][:, chunk] = _usual(logs, shared[query])
                facing = _relative(logs - usual[query][:, chunk, None, None], shared[query])
                counted = inside[query][chunk, None] & textured
                found[query].together[:, here] += np.where(counted[:, None], np.log(facing), 0).sum(0)
                counts[query][here] += counted.sum(0)
                by_patient = np.minimum.reduceat(facing.min(1), starts, axis=1)
                _merge(found[query], chunk, by_patient, codes[here][starts])
    for own, body, count in zip(found, inside, counts, strict=True):
        own.distance[~body], own.patient[~body] = np.inf, -1
        own.together[...] /= np.maximum(count, LEAST_COVERED * max(1.0, float(count.max(initial=0))))
    return tuple(found)


def parts_distance(
    query: FloatVolume,
    candidates: FloatVolume,
    ground: FloatVolume,
    shared: npt.NDArray[np.bool_],
    grid: IndexGrid,
) -> npt.NDArray[np.float64]:
    """Return the geometric mean of the windows' distances, each window moved by up to one voxel on its own.

    Args:
        query: (C, X, Y, Z) intensities at view resolution.
        candidates: (B, C, X, Y, Z) intensities that lie on the query.
        ground: (B, 1, X, Y, Z) 1 where the query and the candidate have something to compare.
        shared: (B, C) modalities that both have.
        grid: The index's grids.

    Returns:
        (B,) distances, as in `likeness.joined`.
    """
    fixed = _variants([grid.regions(query)], SHIFTS)
    rows = torch.from_numpy(np.stack([grid.regions(candidate) for candidate in candidates])).flatten(2)
    common = torch.from_numpy(np.stack([grid.regions(one) for one in ground])).flatten(2)
    windows, scale = _windows(grid.region_shape, grid.window), _scale(grid.regions(query))
    found = []
    for chunk in _chunks(windows):
        refs = _patches(rows, windows[chunk])
        distance = _distances(_patches(fixed, windows[chunk]), refs, refs.square().sum(3), scale)
        found.append(distance.min(2).values)
    distances = torch.cat(found, 1).permute(2, 1, 0)
    covered = common[:, 0][:, windows].mean(2) >= COVERED
    known = covered[:, :, None] & torch.from_numpy(shared)[:, None]
    return joined(distances.flatten(1).double().numpy(), known.flatten(1).numpy())


def _merge(
    found: RegionNeighbours, chunk: slice, distance: npt.NDArray[np.float32], patient: npt.NDArray[np.int32]
) -> None:
    """Keep the nearest patients of some windows: (w, P) distances of P patients."""
    both = np.concatenate([found.distance[chunk], distance], axis=1)
    names = np.concatenate([found.patient[chunk], np.broadcast_to(patient, distance.shape)], axis=1)
    order = np.argsort(both, axis=1, kind="stable")[:, : found.distance.shape[1]]
    found.distance[chunk] = np.take_along_axis(both, order, 1)
    found.patient[chunk] = np.take_along_axis(names, order, 1)


def _patient_codes(index: Index) -> npt.NDArray[np.int32]:
    """Number patients in the order of the index."""
    names = [record.patient for record in index.records]
    codes = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([codes[name] for name in names], np.int32)


@cache
def _windows(shape: tuple[int, int, int], window: tuple[int, int, int]) -> torch.Tensor:
    """Return the (W, m) voxels of each window, numbered as in a flattened volume."""
    axes = []
    for n, size in zip(shape, window, strict=True):
        starts = np.unique(np.append(np.arange(0, n - size, max(1, round(size / 2))), n - size))
        axes.append([range(start, start + size) for start in starts])
    places = [np.ravel_multi_index(np.ix_(*own), shape).ravel() for own in product(*axes)]
    return torch.from_numpy(np.stack(places))


def _chunks(windows: torch.Tensor) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, len(windows), CHUNK)]


def _variants(volumes: Sequence[FloatVolume], shifts: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Return (n, C, voxels): each of the (C, x, y, z) volumes moved by each of the shifts; 0 comes in."""
    moved = []
    for volume in volumes:
        x, y, z = volume.shape[1:]
        padded = np.pad(volume, ((0, 0), (1, 1), (1, 1), (1, 1)))
        moved += [padded[:, 1 - a : 1 - a + x, 1 - b : 1 - b + y, 1 - c : 1 - c + z] for a, b, c in shifts]
    return torch.from_numpy(np.stack(moved)).flatten(2)


def _patches(volumes: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Return (C, w, n, m) centred patches of (n, C, voxels)."""
    patches = volumes[:, :, windows].permute(1, 2, 0, 3)
    return patches - patches.mean(3, keepdim=True)


def _scale(volume: FloatVolume) -> torch.Tensor:
    """Return the (C,) mean square of each modality where it is not 0."""
    flat = torch.from_numpy(np.ascontiguousarray(volume)).flatten(1)
    return (flat**2).sum(1) / (flat != 0).sum(1).clamp(min=1)


def _distances(patches: torch.Tensor, refs: torch.Tensor, power: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return (C, w, K, N) distances of patches (C, w, K, m) to others (C, w, N, m) of `power` (C, w, N), in (0, 2].

    It is 1 - correlation where the patch has texture. Where it is flat, as in air, everybody is equally near, and a
    candidate's flat window is near to nobody's texture: a ratio of distances must not come from nothing.
    """
    own, other = patches.square().sum(3)[..., None], power[:, :, None]
    least = (patches.shape[3] * scale)[:, None, None, None]
    norm = (own * torch.maximum(other, DIMMEST * own)).sqrt().clamp(min=1e-20)
    alike = patches @ refs.transpose(2, 3) / norm
    return (((1 - alike) * own + ALIKE * least) / (own + FLAT * least).clamp(min=1e-20)).clamp(SMALLEST, 2)


def _usual(logs: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Return the (C, w) median log distance of each modality over those who have it, 0 where nobody has."""
    nearest = logs.min(2).values.masked_fill(~shared.T[:, None], torch.nan)
    return nearest.nanmedian(2).values.nan_to_num(0.0)


def _relative(logs: torch.Tensor, shared: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return (w, 2, N) distances of a query as it is and mirrored, in its best shift; inf without a modality."""
    counts = shared.sum(1)
    mean = (logs * shared.T[:, None, None]).sum(0) / counts.clamp(min=1)
    best = mean.unflatten(1, (2, len(STEPS))).min(2).values.exp()
    best[:, :, counts == 0] = torch.inf
    distances: npt.NDArray[np.float32] = best.numpy()
    return distances
