"""The area under the ROC curve of two samples of scores, its interval and its p-value."""

from __future__ import annotations

from math import nan

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.rates import Estimate, check_confidence

__all__ = ["auc", "auc_interval", "mann_whitney_p"]

FEWEST = 5
EXACT = 2000
"""The smaller count times both, up to which p-values are exact: about the square of this is the work."""


def auc(positives: FloatVector, negatives: FloatVector) -> float:
    """Return the chance that one of (m,) positives exceeds one of (n,) negatives, ties half; NaN where a side is empty.

    Example:
        >>> auc(np.array([1.0, 3.0]), np.array([0.0, 1.0]))
        0.875
    """
    if min(positives.size, negatives.size) == 0:
        return nan
    ranks = stats.rankdata(np.concatenate([positives, negatives]))[: positives.size].sum()
    return float((ranks / positives.size - (positives.size + 1) / 2) / negatives.size)


def auc_interval(positives: FloatVector, negatives: FloatVector, confidence: float) -> Estimate:
    """Return the area with its interval.

    DeLong's (doi:10.2307/2531595) on the logit scale, which keeps it inside [0, 1]. Where DeLong's has no width, as
    with complete separation, Newcombe's (doi:10.1002/sim.2324), which does not take a perfect result of few scores for
    certain. With fewer than five scores on either side neither is to be relied on, and the ends are NaN.

    Raises:
        ValueError: A confidence outside (0, 1).

    Example:
        >>> apart = auc_interval(np.arange(10.0, 20.0), np.arange(10.0), 0.95)
        >>> apart.value, round(apart.low, 2), apart.high
        (1.0, 0.8, 1.0)
    """
    check_confidence(confidence)
    m, n = positives.size, negatives.size
    value = auc(positives, negatives)
    if min(m, n) < FEWEST:
        return Estimate(value, nan, nan)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    ranks = stats.rankdata(np.concatenate([positives, negatives]))
    above = (ranks[:m] - stats.rankdata(positives)) / n
    below = (ranks[m:] - stats.rankdata(negatives)) / m
    variance = float(above.var(ddof=1) / m + below.var(ddof=1) / n)
    if variance <= np.finfo(np.float64).eps:
        return _newcombe(value, m, n, z)
    reach = z * np.sqrt(variance) / (value * (1 - value))
    logit = np.log(value / (1 - value))
    return Estimate(value, float(1 / (1 + np.exp(reach - logit))), float(1 / (1 + np.exp(-reach - logit))))


def mann_whitney_p(positives: FloatVector, negatives: FloatVector) -> float:
    """Return the one-sided p-value of positives being larger; NaN where a side is empty.

    Exact for small samples, tied or not; the normal approximation for large ones.

    Example:
        >>> round(mann_whitney_p(np.array([2.0, 3.0]), np.array([0.0, 1.0])), 4)
        0.1667
    """
    m, n = positives.size, negatives.size
    together = np.concatenate([positives, negatives])
    if min(m, n) == 0:
        return nan
    if np.ptp(together) == 0:
        return 1.0
    if min(m, n) * (m + n) > EXACT:
        return float(stats.mannwhitneyu(positives, negatives, alternative="greater", method="asymptotic").pvalue)
    ranks = (2 * stats.rankdata(together)).astype(int)  # ties have half ranks
    if m <= n:
        return _share_of_choices(ranks, m, int(ranks[:m].sum()))
    return _share_of_choices(ranks.max() + ranks.min() - ranks, n, int((ranks.max() + ranks.min() - ranks[m:]).sum()))


def _share_of_choices(ranks: npt.NDArray[np.int_], size: int, least: int) -> float:
    """Return the share of all choices of `size` of the ranks that sum to `least` or more."""
    most = int(np.sort(ranks)[-size:].sum())
    ways = np.zeros((size + 1, most + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, : most + 1 - rank].copy()
    return float(ways[size, least:].sum() / ways[size].sum())


def _newcombe(value: float, m: int, n: int, z: float) -> Estimate:
    """Return the areas that lie within z of their own standard deviations from the value that was seen."""

    def outside(true: float) -> float:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - true) / (2 - true) + true / (1 + true))
        return float((value - true) ** 2 - z**2 * true * (1 - true) * spread / (m * n))

    edge = 1e-12
    low = optimize.brentq(outside, 0.0, min(value, 1 - edge)) if value > 0 else 0.0
    high = optimize.brentq(outside, max(value, edge), 1.0) if value < 1 else 1.0
    return Estimate(value, float(low), float(high))
