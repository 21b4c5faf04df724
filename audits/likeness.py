"""How alike two aligned volumes are, where both have something to compare.

All take float volumes and return a similarity of at most 1, computed in double precision; -1 where nothing is shared.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anonsynth.cohort.geometry import FloatVolume

__all__ = ["correlation", "dependence", "overlap_cosine"]

LEVELS = 128
LEVEL_VOXELS = 40
"""A level holds at least so many voxels: with fewer, chance would look like dependence."""
LEAST_OVERLAP = 0.4

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]


def correlation(query: FloatVolume, candidate: FloatVolume, shared: Mask) -> float:
    """Return the mean correlation of the modalities (C, X, Y, Z) within the overlap of both fields of view.

    Args:
        query: Standardised intensities, 0 outside the field of view.
        candidate: Likewise, already laid on the query.
        shared: (C,) modalities that both have.
    """
    overlap = _overlap(query, candidate)
    if overlap is None or not shared.any():
        return -1.0
    values = [_correlate(query[c][overlap], candidate[c][overlap]) for c in np.flatnonzero(shared)]
    return min(1.0, float(np.mean(values)))


def dependence(query: Values, candidate: Values, seen: Mask, shared: Mask) -> float:
    """Return how far the query's intensities are a function of the candidate's: the correlation ratio, in [0, 1].

    The function may rise and fall, so a copy in another modality's contrast has nearly 1 (Roche et al. 1998,
    doi:10.1007/BFb0056301). The candidate's intensities are cut into levels of equal counts.

    Args:
        query: (C, V) intensities of single voxels.
        candidate: (C, V) intensities at the same places.
        seen: (V,) places that both scans cover.
        shared: (C,) modalities that both have.
    """
    if np.count_nonzero(seen) < LEAST_OVERLAP * len(seen) or not shared.any():
        return -1.0
    return float(np.mean([_correlation_ratio(query[c][seen], candidate[c][seen]) for c in np.flatnonzero(shared)]))


def overlap_cosine(query: FloatVolume, candidate: FloatVolume, seen_query: Mask, seen_candidate: Mask) -> float:
    """Return the cosine of all channels (C, X, Y, Z) within the overlap of two (X, Y, Z) fields of view."""
    overlap = seen_query & seen_candidate
    if np.count_nonzero(overlap) < LEAST_OVERLAP * min(np.count_nonzero(seen_query), np.count_nonzero(seen_candidate)):
        return -1.0
    a, b = query[:, overlap].astype(np.float64).ravel(), candidate[:, overlap].astype(np.float64).ravel()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return min(1.0, float(a @ b / norm)) if norm > 0 else -1.0


def _overlap(query: FloatVolume, candidate: FloatVolume) -> Mask | None:
    first, second = (query != 0).any(0), (candidate != 0).any(0)
    both: Mask = first & second
    enough = LEAST_OVERLAP * min(np.count_nonzero(first), np.count_nonzero(second))
    return both if np.count_nonzero(both) >= max(enough, 2) else None


def _correlate(first: FloatVolume, second: FloatVolume) -> float:
    a, b = first.astype(np.float64), second.astype(np.float64)
    a -= a.mean()
    b -= b.mean()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm > 0 else 0.0


def _correlation_ratio(query: Values, candidate: Values) -> float:
    order = np.argsort(candidate)
    values = query[order].astype(np.float64)
    values -= values.mean()
    total = float(values @ values)
    levels = min(LEVELS, len(values) // LEVEL_VOXELS)
    if total == 0 or levels < 2:
        return 0.0
    edges = np.linspace(0, len(values), levels + 1).astype(int)
    sums, counts = np.add.reduceat(values, edges[:-1]), np.diff(edges)
    return float((sums**2 / counts).sum() / total)
