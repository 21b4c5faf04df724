"""From a statistic to a p-value that means what it says, with few holdout patients.

Up to the largest holdout value the p-value is a conformal rank: exact for any distribution, needing only that a scan
that copies nobody is exchangeable with a holdout scan (Bates et al. 2023, doi:10.1214/22-AOS2244; the p-values of one
run share their null, which keeps Benjamini-Hochberg valid). Ranks cannot go below 1/(n + 1), so ten copies among fifty
scans would be lost with twenty holdout patients. Beyond the largest holdout value the tail is therefore extrapolated.

Why exponential: around a scan in a locally uniform cloud of intrinsic dimension m, the ratio of the distances to the
two nearest points obeys P(d1/d2 < r) = r^m (Facco et al. 2017, doi:10.1038/s41598-017-11873-y), so the negative log
ratio has an exponential tail. Given that, the excess of a new value over the (k+1)-th largest of n null values, divided
by the sum E of the k excesses of the null, has P(excess / E > t) = (1 + t)^-k exactly: the uncertainty of the fitted
rate is in the p-value, and a small holdout pays for it. Real cohorts had tails a little lighter than exponential, which
errs towards larger p-values; `controls.py` checks the result on every cohort by its false positive rate.

Training patients left out one at a time are not pooled into the null although there are more of them: they stay apart
as the negative control that can contradict it. They lend it only the rate at which its tail falls (`companion`), of
which twenty holdout patients say little; where the tail begins, and how often it is reached, the holdout alone says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "Calibrated",
    "Interval",
    "calibrate",
    "exact_interval",
    "q_values",
    "samples_needed",
    "upper_bound",
]

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Interval:
    """An exact interval of a rate, both ends in [0, 1]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibrated p-values.

    Attributes:
        p: (N,) in (0, 1]; NaN where the statistic is NaN.
        extrapolated: (N,) True where the value lies beyond every null value.
    """

    p: FloatVector
    extrapolated: BoolVector


def calibrate(observed: npt.ArrayLike, null: npt.ArrayLike, companion: npt.ArrayLike = ()) -> Calibrated:
    """Return the p-values of `observed`; larger values are stronger evidence.

    Args:
        observed: (N,) values of the scans in question; NaN where a view does not exist.
        null: (n,) one value per holdout patient; NaN is left out.
        companion: (m,) values of other scans that copy nobody, whose tail falls at the same rate; they help to fit it
            and count for nothing else.

    Example:
        >>> calibrate([0.35, 9.0], [0.1, 0.2, 0.3, 0.4]).p.round(6).tolist()
        [0.4, 0.000652]
    """
    x = np.asarray(observed, np.float64)
    values = np.sort(np.asarray(null, np.float64))[::-1]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Calibrated(np.where(np.isnan(x), np.nan, 1.0), np.zeros(x.shape, bool))
    count = values.size
    p = (1 + (values[None, :] >= x[:, None]).sum(1)) / (count + 1)
    beyond = x > values[0]
    p[beyond] = np.minimum(_tail(x[beyond], values, np.asarray(companion, np.float64)), 1 / (count + 1))
    return Calibrated(np.where(np.isnan(x), np.nan, p), beyond)


def q_values(p: npt.ArrayLike) -> FloatVector:
    """Return Benjamini-Hochberg q-values (doi:10.1111/j.2517-6161.1995.tb02031.x) of (N,) p-values."""
    values = np.asarray(p, np.float64)
    if values.size == 0:
        return values
    return np.asarray(stats.false_discovery_control(values, method="bh"), np.float64)


def exact_interval(found: int, of: int, confidence: float) -> Interval:
    """Return the two-sided Clopper-Pearson interval of a rate; the whole range where `of` is 0."""
    if of == 0:
        return Interval(0.0, 1.0)
    bounds = stats.binomtest(found, of).proportion_ci(confidence, method="exact")
    return Interval(float(bounds.low), float(bounds.high))


def upper_bound(found: int, of: int, confidence: float) -> float:
    """Return the one-sided exact upper bound of a rate of which `found` of `of` were seen.

    Example:
        >>> round(upper_bound(0, 50, 0.95), 3)
        0.058
    """
    if of == 0 or found >= of:
        return 1.0
    return float(stats.beta.ppf(confidence, found + 1, of - found))


def samples_needed(rate: float, confidence: float) -> int:
    """Return how many scans must show nothing before a rate above `rate` is excluded."""
    return int(np.ceil(np.log(1 - confidence) / np.log1p(-rate)))


def _tail(x: FloatVector, descending: FloatVector, companion: FloatVector) -> FloatVector:
    """Predict the exponential tail above the upper half of the null values."""
    count = descending.size
    k = count // 2
    if k == 0:
        return np.full(x.shape, 1 / (count + 1))
    threshold = descending[k]
    others = _excesses(np.sort(companion[np.isfinite(companion)])[::-1])
    excess = float(_excesses(descending).sum() + others.sum())
    if excess <= np.finfo(np.float64).eps:  # all equal: nothing to take a rate from
        return np.full(x.shape, 1 / (count + 1))
    tail: FloatVector = (k + 1) / (count + 1) * (1 + (x - threshold) / excess) ** -float(k + others.size)
    return tail


def _excesses(descending: FloatVector) -> FloatVector:
    """Return by how much the upper half lies above the next value."""
    k = descending.size // 2
    upper: FloatVector = descending[:k] - descending[k] if k else descending[:0]
    return upper
