"""Copied parts: is any region of a scan nearer to one patient's than it should be, however new the rest is.

Overlapping windows of a third of each axis are compared with the same place in every training scan, moved by up to one
voxel and mirrored or not, by their correlation. Each window has its own nearest patients; a copied lesion, lobe or
hemisphere shows in the windows within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from anonsynth.audits.index import Index, IndexGrid
from anonsynth.audits.views import View
from anonsynth.cohort.geometry import FloatVolume

__all__ = ["RegionNeighbours", "nearest_regions", "parts_distance"]

WINDOW = 0.3
PLACES = 5
FLAT = 0.05
SMALLEST = 1e-4
SHIFTS = tuple(product((0, -1, 1), repeat=3))


@dataclass(frozen=True, slots=True)
class RegionNeighbours:
    """The nearest patients of each of W windows of a scan, nearest first.

    Attributes:
        distance: (W, K) 1 - correlation; inf where there is nobody.
        patient: (W, K) number of the patient in the index's order; -1 where there is nobody.
        together: (2, N) mean log distance of all windows to each of the N training scans, the query as it is and
            mirrored; a scan that was bent is near in all windows, though in none by much.
    """

    distance: npt.NDArray[np.float32]
    patient: npt.NDArray[np.int32]
    together: npt.NDArray[np.float32]


def nearest_regions(
    queries: Sequence[FloatVolume], present: Sequence[npt.NDArray[np.bool_]], index: Index, keep: int
) -> tuple[RegionNeighbours, ...]:
    """Find the nearest patients of every window, reading the index once.

    Args:
        queries: (C, x, y, z) intensities on the index's region grid.
        present: (C,) modalities of each.
        index: The training scans.
        keep: Patients to keep for each window.
    """
    windows = _windows(index.grid.region_shape)
    codes = _patient_codes(index)
    variants = [_variants(query) for query in queries]
    norms = [_scale(query) for query in queries]
    found = [
        RegionNeighbours(
            np.full((len(windows), keep), np.inf, np.float32),
            np.full((len(windows), keep), -1, np.int32),
            np.zeros((2, len(index.records)), np.float32),
        )
        for _ in queries
    ]
    shape = (index.grid.modalities, *index.grid.region_shape)
    for block in index.blocks():
        rows = torch.from_numpy(block.region).reshape(-1, *shape)
        here = slice(block.first, block.first + len(rows))
        scale = _scale_rows(rows)
        shared = [np.maximum((index.present[View.INTENSITY][here] & p).sum(1), 1).astype(np.float32) for p in present]
        starts = np.flatnonzero(np.diff(codes[here], prepend=-1))
        for number, window in enumerate(windows):
            refs = _standardised(rows[(slice(None), slice(None), *window)], scale)
            for query, variant in enumerate(variants):
                patches = _standardised(variant[(slice(None), slice(None), *window)], norms[query])
                facing = (patches @ refs.T).reshape(2, len(SHIFTS), -1).max(1).values.numpy() / shared[query]
                found[query].together[:, here] += np.log(np.maximum(1 - facing, SMALLEST)) / len(windows)
                by_patient = np.maximum.reduceat(facing.max(0), starts)
                _merge(found[query], number, 1 - by_patient, codes[here][starts])
    return tuple(found)


def parts_distance(
    query: FloatVolume, candidates: FloatVolume, grid: IndexGrid, shared: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Return the geometric mean over all windows of 1 - correlation, each window moved by up to one voxel on its own.

    Args:
        query: (C, X, Y, Z) intensities at view resolution.
        candidates: (B, C, X, Y, Z) intensities that lie on the query.
        grid: The index's grids.
        shared: (B,) modalities that the query and each candidate have.

    Returns:
        (B,) distances.
    """
    fixed = _variants(grid.regions(query), turned=False)
    rows = torch.from_numpy(np.stack([grid.regions(candidate) for candidate in candidates]))
    norm, scale = _scale_rows(fixed[:1]), _scale_rows(rows)
    total = np.zeros(len(rows))
    windows = _windows(grid.region_shape)
    for window in windows:
        here = (slice(None), slice(None), *window)
        similarity = _standardised(fixed[here], norm) @ _standardised(rows[here], scale).T
        total += np.log(np.maximum(1 - similarity.max(0).values.numpy() / shared, SMALLEST)) / len(windows)
    return np.exp(total)


def _merge(
    found: RegionNeighbours, window: int, distance: npt.NDArray[np.float32], patient: npt.NDArray[np.int32]
) -> None:
    both = np.concatenate([found.distance[window], distance])
    names = np.concatenate([found.patient[window], patient])
    order = np.argsort(both, kind="stable")[: found.distance.shape[1]]
    found.distance[window], found.patient[window] = both[order], names[order]


def _patient_codes(index: Index) -> npt.NDArray[np.int32]:
    """Number patients in the order of the index."""
    names = [record.patient for record in index.records]
    codes = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([codes[name] for name in names], np.int32)


def _windows(shape: tuple[int, int, int]) -> list[tuple[slice, slice, slice]]:
    axes = []
    for n in shape:
        size = min(n, max(3, round(WINDOW * n)))
        starts = np.unique(np.round(np.linspace(0, n - size, PLACES)).astype(int))
        axes.append([slice(int(start), int(start) + size) for start in starts])
    return list(product(*axes))


def _variants(volume: FloatVolume, *, turned: bool = True) -> torch.Tensor:
    """Return (54, C, x, y, z): as it is and mirrored, each moved by up to one voxel; (27, ...) without the mirror."""
    x, y, z = volume.shape[1:]
    moved = []
    for facing in (volume, volume[:, ::-1]) if turned else (volume,):
        padded = np.pad(facing, ((0, 0), (1, 1), (1, 1), (1, 1)))
        moved += [padded[:, 1 - a : 1 - a + x, 1 - b : 1 - b + y, 1 - c : 1 - c + z] for a, b, c in SHIFTS]
    return torch.from_numpy(np.stack(moved))


def _scale(volume: FloatVolume) -> torch.Tensor:
    """Return the (1, C) mean square of each modality where it is not 0."""
    return _scale_rows(torch.from_numpy(np.ascontiguousarray(volume))[None])


def _scale_rows(rows: torch.Tensor) -> torch.Tensor:
    flat = rows.flatten(2)
    return (flat**2).sum(2) / (flat != 0).sum(2).clamp(min=1)


def _standardised(patches: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return (n, C·m) patches of mean 0 and norm 1 a modality; flat ones stay small, so that air is like nothing."""
    flat = patches.flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    norm = (centred**2).sum(2, keepdim=True) + FLAT * flat.shape[2] * scale[:, :, None] + 1e-20
    return (centred / norm.sqrt()).flatten(1)
