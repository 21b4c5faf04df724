"""How much of the real scans' variety do the generated ones have, and how real are they?

Precision and recall of Kynkäänniemi et al. 2019 (arXiv 1904.06991), density and coverage of Naeem et al. 2020
(arXiv 2002.09797). Around each scan lies a closed ball that reaches to its k-th nearest other scan of the same set:

- precision: share of candidates inside the ball of at least one training scan;
- density: mean number of training balls that a candidate lies in, divided by k; 1 is expected where candidates are
  drawn as the training scans were, more where they crowd where the training scans are densest;
- recall: share of training scans inside the ball of at least one candidate;
- coverage: share of training scans with at least one candidate inside their own ball.

They measure utility, not privacy: a copier of the training set is perfect in all four. Finite samples do not reach 1
even without any loss, so each is put beside what unseen patients reach. Recall and coverage depend on the number of
candidates; for them as many generated scans are drawn as there are holdout scans, or the other way round.

The intervals hold for this training set. Those of recall and coverage take the training scans as independent; one
candidate may cover several of them, so the true uncertainty is rather larger. Rows should be one scan per patient:
a second scan of a patient shrinks the balls of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.points import FloatMatrix, as_points
from anonsynth.audits.rates import Estimate, Rate, check_confidence, rate
from anonsynth.seeds import stream

__all__ = ["Manifold", "ManifoldComparison", "compare_manifolds", "manifold"]

FEWEST_TO_RESAMPLE = 5
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Manifold:
    """The four measures of one set of candidates; `of` is 0 and a value NaN where k neighbours do not exist.

    Attributes:
        precision: Of the candidates.
        recall: Of the training scans.
        density: At least 0, without an upper end. The interval is a bootstrap over the candidates; NaN with fewer than
            five of them or where all are alike, since resampling equal values says nothing.
        coverage: Of the training scans.
    """

    precision: Rate
    recall: Rate
    density: Estimate
    coverage: Rate


@dataclass(frozen=True, slots=True)
class ManifoldComparison:
    """The generated scans beside unseen patients.

    Attributes:
        generated: Of the generated scans.
        holdout: Of the holdout scans: what no loss looks like.
        drawn: How many scans of each went into recall and coverage.
    """

    generated: Manifold
    holdout: Manifold
    drawn: int


def manifold(
    candidates: npt.ArrayLike, train: npt.ArrayLike, *, k: int = 5, confidence: float = 0.95, seed: int = 0
) -> Manifold:
    """Measure candidates against training scans.

    Args:
        candidates: (M, D) features.
        train: (N, D) of training scans. Distances within and between the two sets are held in memory.
        k: Which neighbour a ball reaches to, at least 1.
        confidence: Of the intervals, in (0, 1).
        seed: Of the bootstrap.

    Raises:
        ValueError: Shapes that do not match, values that are not finite, or k or confidence out of range.

    Example:
        >>> of = manifold([[0.5], [0.6], [9.0], [9.1]], [[0.0], [1.0], [2.0], [3.0]], k=1)
        >>> of.precision.value, of.recall.value, of.density.value, of.coverage.value
        (0.5, 0.0, 1.0, 0.5)
    """
    records = as_points("train", train)
    points = as_points("candidates", candidates, width=records.shape[1])
    return _measure(points, points, records, k, confidence, seed)


def compare_manifolds(
    generated: npt.ArrayLike,
    holdout: npt.ArrayLike,
    train: npt.ArrayLike,
    *,
    k: int = 5,
    confidence: float = 0.95,
    seed: int = 0,
) -> ManifoldComparison:
    """Measure generated scans and unseen patients against the training scans.

    Args:
        generated: (G, D) features of generated scans; all of them count for precision and density.
        holdout: (H, D) of scans of unseen patients.
        train: (N, D) of training scans.
        k: Which neighbour a ball reaches to, at least 1.
        confidence: Of the intervals, in (0, 1).
        seed: Of the bootstrap and of the scans drawn for recall and coverage.

    Raises:
        ValueError: Shapes that do not match, values that are not finite, or k or confidence out of range.
    """
    records = as_points("train", train)
    made = as_points("generated", generated, width=records.shape[1])
    unseen = as_points("holdout", holdout, width=records.shape[1])
    drawn = min(len(made), len(unseen))
    rng = stream(seed, "audit", "manifold", "draw")
    of_made, of_unseen = (
        _measure(points, points[rng.permutation(len(points))[:drawn]], records, k, confidence, seed)
        for points in (made, unseen)
    )
    return ManifoldComparison(of_made, of_unseen, drawn)


def _measure(
    points: FloatMatrix, drawn: FloatMatrix, records: FloatMatrix, k: int, confidence: float, seed: int
) -> Manifold:
    check_confidence(confidence)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    nowhere = rate(0, 0, confidence)
    recall = coverage = precision = nowhere
    density = Estimate(float("nan"), float("nan"), float("nan"))
    if len(drawn) > k:
        reached = (cdist(drawn, records) <= _radii(drawn, k)[:, None]).any(0)
        recall = rate(int(reached.sum()), len(records), confidence)
    if len(records) > k and len(points):
        radii = _radii(records, k)
        inside = cdist(points, records) <= radii
        precision = rate(int(inside.any(1).sum()), len(points), confidence)
        density = _bootstrap_mean(inside.sum(1) / k, confidence, seed)
        if len(drawn):
            covered = (cdist(drawn, records) <= radii).any(0)
            coverage = rate(int(covered.sum()), len(records), confidence)
    return Manifold(precision, recall, density, coverage)


def _radii(points: FloatMatrix, k: int) -> FloatVector:
    """Return (n,) the distance of each point to its k-th nearest other."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    radii: FloatVector = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii


def _bootstrap_mean(values: FloatVector, confidence: float, seed: int) -> Estimate:
    mean = float(values.mean())
    if values.size < FEWEST_TO_RESAMPLE or np.ptp(values) == 0:
        return Estimate(mean, float("nan"), float("nan"))
    rng = stream(seed, "audit", "manifold", "bootstrap")
    levels, counts = np.unique(values, return_counts=True)
    means = rng.multinomial(values.size, counts / values.size, RESAMPLES) @ levels / values.size
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(mean, float(low), float(high))
