"""How alike a query and each of its candidates are, over the ground on which both have something to compare.

The ground is the query's body as far as the candidate's field of view reaches: for every candidate the same voxels, but
for those that it does not cover. Compared over whatever both happen to fill, a candidate of odd extent would be nearest
to every query of odd extent, though neither copies the other. Modalities that some candidates lack are held apart for
the same reason (`joined`): a patient with only the modality that generated scans do best would be nearest to them all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["UNKNOWN", "correlations", "cosine", "dependences", "joined"]

LEVELS = 128
LEVEL_VOXELS = 40
"""A level holds at least so many voxels: with fewer, chance would look like dependence."""
LEAST_OVERLAP = 0.25
"""Thick slabs of a few centimetres are common; what covers less than this of the ground is not compared."""

UNKNOWN = 2.0
"""Distance where there is nothing to compare."""
LEAST_KNOWN = 0.4

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


def joined(distances: Floats, known: Mask) -> Floats:
    """Return the geometric mean of each candidate's distances, over whatever is known of it, made comparable.

    An additive model of logarithms, candidate plus column: in each column, a modality or a window, what counts is how
    far a candidate lies from what is usual there.

    Args:
        distances: (B, K) of B candidates, positive.
        known: (B, K) where there was something to compare.

    Returns:
        (B,) distances; 2 for a candidate of which less than 0.4 of what is known of anybody is known.
    """
    used = known.any(0)
    if not used.any():
        return np.full(len(distances), UNKNOWN)
    logs = np.where(known, np.log(distances), np.nan)[:, used]
    usual = np.nanmedian(logs, axis=0)
    counts = known[:, used].sum(1)
    apart = np.nansum(logs - usual, axis=1) / np.maximum(counts, 1)
    enough = (counts > 0) & (counts >= LEAST_KNOWN * counts.max())
    return np.where(enough, np.exp(apart + usual.mean()), UNKNOWN)


def correlations(query: torch.Tensor, candidates: torch.Tensor, ground: torch.Tensor) -> Floats:
    """Return the correlation of each modality.

    Args:
        query: (C, V) intensities.
        candidates: (B, C, V), laid on the query.
        ground: (B, V) 1 where both have something to compare.

    Returns:
        (B, C) in [-1, 1]; -1 where too little is shared.
    """
    size = ground.sum(1).double()[:, None].clamp(min=1)
    masked = candidates * ground[:, None]
    own = (ground @ query.T).double() / size
    other = masked.sum(2).double() / size
    product = torch.einsum("cv,bcv->bc", query, masked).double() / size - own * other
    variance = (ground @ (query**2).T).double() / size - own**2
    spread = (masked**2).sum(2).double() / size - other**2
    norm = (variance.clamp(min=0) * spread.clamp(min=0)).sqrt()
    values = torch.where(norm > 0, product / norm.clamp(min=1e-30), torch.zeros_like(norm)).clamp(-1, 1).numpy()
    return np.where(_enough(ground)[:, None], values, -1.0)


def cosine(query: torch.Tensor, candidates: torch.Tensor, ground: torch.Tensor) -> Floats:
    """Return the cosine of all channels together.

    Args:
        query: (K, V).
        candidates: (B, K, V), laid on the query.
        ground: (B, V) 1 where both have something to compare.

    Returns:
        (B,) in [-1, 1]; -1 where nothing is shared.
    """
    masked = candidates * ground[:, None]
    product = torch.einsum("kv,bkv->b", query, masked).double()
    norm = ((ground @ (query**2).sum(0)).double() * (masked**2).sum((1, 2)).double()).sqrt()
    values = torch.where(norm > 0, product / norm.clamp(min=1e-30), torch.full_like(norm, -1.0)).clamp(-1, 1)
    return np.where(_enough(ground), values.numpy(), -1.0)


def dependences(query: Values, candidate: Values, seen: Mask, shared: Mask) -> Floats:
    """Return how far each modality is a function of the candidate's: the correlation ratio, in [0, 1].

    The function may rise and fall, so a copy in another modality's contrast has nearly 1 (Roche et al. 1998,
    doi:10.1007/BFb0056301). The candidate's intensities are cut into levels of equal counts.

    Args:
        query: (C, V) intensities of single voxels.
        candidate: (C, V) intensities at the same places.
        seen: (V,) places that both scans cover.
        shared: (C,) modalities that both have.

    Returns:
        (C,); -1 where too little is shared.
    """
    ratios = np.full(len(shared), -1.0)
    if np.count_nonzero(seen) >= LEAST_OVERLAP * len(seen):
        for c in np.flatnonzero(shared):
            ratios[c] = _correlation_ratio(query[c][seen], candidate[c][seen])
    return ratios


def _enough(ground: torch.Tensor) -> Mask:
    """Tell which candidates cover enough of the best covered ground, which is next to all of the query's body."""
    size = ground.sum(1).numpy()
    return np.asarray(size >= max(2.0, LEAST_OVERLAP * float(size.max(initial=0))))


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
