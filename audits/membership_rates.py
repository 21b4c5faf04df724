"""How well do an attack's scores tell training patients from unseen ones, at few false alarms?

An average over everybody hides the few whom a model remembers, so besides the AUC there is the true positive rate at
small false positive rates (Carlini et al. 2022, arXiv 2112.03570). The threshold for a rate f is conformal: the k-th
largest of n non-member scores with k = floor(f (n + 1)); a further non-member lies above it with probability at most f,
whatever the distribution. Where k would be 0, that is n < 1/f - 1, no threshold exists and no number is given.

The threshold is itself an estimate, and with few non-members a poor one. The interval is one of the true positive rate
at the quantile that is meant: order statistics bracket that quantile, an exact binomial interval is taken of the
members above either end, and each half of the work gets half of the allowed error (Bonferroni), so it covers at least
as often as it says. Its lower end stays 0 where the quantile may lie above every non-member (at 95 %, n below 42 for a
rate of 0.1, below 437 for 0.01). The p-value needs no quantile and is not weakened by that: without a difference the
number of members above the k-th largest of n non-members is beta-binomial (m; k, n + 1 - k).

Scores count as independent: one per patient. Larger means more likely a member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor, nan

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from anonsynth.audits.auc import auc, auc_interval, mann_whitney_p
from anonsynth.audits.calibration import FloatVector, Interval, exact_interval
from anonsynth.audits.points import as_scores
from anonsynth.audits.rates import Estimate, check_confidence
from anonsynth.seeds import stream

__all__ = ["Control", "MembershipRates", "RateAt", "control", "membership_rates", "smallest_advantage"]

FALSE_POSITIVE_RATES = (0.01, 0.05, 0.1)
QUANTILES = 500


@dataclass(frozen=True, slots=True)
class RateAt:
    """The true positive rate at one false positive rate.

    Attributes:
        threshold: Members above it are recognised.
        found: How many members are.
        value: Their share in [0, 1]; NaN without members.
        low: Lower end of the interval of the true positive rate at the false positive rate that was asked for.
        high: Upper end.
        hits: Interval of the true positive rate that this very threshold has.
        alarms: Interval of the false positive rate that this very threshold has.
        p: Exact, one-sided: so many or more if members were like non-members.
        smallest_advantage: See `smallest_advantage`.
    """

    threshold: float
    found: int
    value: float
    low: float
    high: float
    hits: Interval
    alarms: Interval
    p: float
    smallest_advantage: float | None


@dataclass(frozen=True, slots=True)
class MembershipRates:
    """What an attack achieved.

    Attributes:
        at: By false positive rate; None where there are too few non-members for it.
        auc: Area under the ROC curve with its interval; see `auc.py`.
        p: Mann-Whitney, one-sided; NaN where a side is empty.
        members: Their number m.
        non_members: Their number n.
    """

    at: Mapping[float, RateAt | None]
    auc: Estimate
    p: float
    members: int
    non_members: int


@dataclass(frozen=True, slots=True)
class Control:
    """Members played against members, R times.

    Attributes:
        auc: (R,) in [0, 1].
        at: By false positive rate, (R,) true positive rates; None where there are too few pseudo non-members for it.
        members: How many played members.
        non_members: How many played non-members.
    """

    auc: FloatVector
    at: Mapping[float, FloatVector | None]
    members: int
    non_members: int


def membership_rates(
    members: npt.ArrayLike,
    non_members: npt.ArrayLike,
    *,
    false_positive_rates: Sequence[float] = FALSE_POSITIVE_RATES,
    confidence: float = 0.95,
) -> MembershipRates:
    """Measure an attack by its scores.

    Args:
        members: (m,) scores of training patients.
        non_members: (n,) scores of unseen patients.
        false_positive_rates: Each in (0, 1).
        confidence: Of the intervals, in (0, 1); 1 - confidence is the level at which an advantage counts as seen.

    Raises:
        ValueError: Not vectors, values that are not finite, or a rate or confidence out of range.

    Example:
        >>> found = membership_rates([3.5, 9.0, 20.0, 30.0], range(19), false_positive_rates=(0.01, 0.1))
        >>> found.at[0.01] is None, found.at[0.1].threshold, found.at[0.1].value
        (True, 17.0, 0.5)
    """
    inside, outside = as_scores("members", members), as_scores("non_members", non_members)
    check_confidence(confidence)
    at = {f: _rate_at(inside, outside, f, confidence) for f in false_positive_rates}
    area, p = auc_interval(inside, outside, confidence), mann_whitney_p(inside, outside)
    return MembershipRates(at, area, p, inside.size, outside.size)


def control(
    members: npt.ArrayLike,
    seed: int,
    repeats: int,
    *,
    non_members: int | None = None,
    false_positive_rates: Sequence[float] = FALSE_POSITIVE_RATES,
) -> Control:
    """Play members against members, split at random, where there is nothing to find.

    The splits share the same scores: they show how far chance alone carries the numbers with so few patients, and that
    nothing on the way from scores to rates favours members. They cannot show that members and non-members were chosen
    alike; only new patients can.

    Args:
        members: (m,) scores of training patients.
        seed: Of the splits.
        repeats: How many splits R, at least 1.
        non_members: How many there are in the real comparison. So many play non-members, but at most half; the rest
            play members. Without it, halves.
        false_positive_rates: Each in (0, 1).

    Raises:
        ValueError: Not a vector, a value that is not finite, fewer than two members, or a number out of range.

    Example:
        >>> played = control(range(60), 0, 200, non_members=20)
        >>> played.members, played.non_members, played.at[0.01], round(float(played.auc.mean()), 1)
        (40, 20, None, 0.5)
    """
    scores = as_scores("members", members)
    if scores.size < 2 or repeats < 1 or (non_members is not None and non_members < 1):
        raise ValueError(
            f"a control needs 2 members, 1 repeat, 1 non-member, got {scores.size}, {repeats}, {non_members}"
        )
    outside = scores.size // 2 if non_members is None else min(non_members, scores.size // 2)
    ranks = {f: _rank(f, outside) for f in false_positive_rates}
    rng = stream(seed, "audit", "membership", "control")
    shuffled = rng.permuted(np.tile(scores, (repeats, 1)), axis=1)
    descending = -np.sort(-shuffled[:, :outside], axis=1)
    at = {f: (shuffled[:, outside:] > descending[:, k - 1 : k]).mean(1) if k else None for f, k in ranks.items()}
    areas = np.array([auc(row[outside:], row[:outside]) for row in shuffled])
    return Control(areas, at, scores.size - outside, outside)


def smallest_advantage(
    members: int, non_members: int, false_positive_rate: float, *, confidence: float = 0.95, power: float = 0.8
) -> float | None:
    """Return the smallest share of members, recognised outright, that would probably have been noticed.

    The leak meant: this share of the members scores above every non-member, the others score like non-members. That
    share is then the largest advantage (true minus false positive rate; Yeom et al. 2018, arXiv 1709.01604) over all
    thresholds. Noticed means p <= 1 - confidence in `RateAt`, probably means with the probability `power`.

    Returns:
        In [0, 1]; None if not even members who are all recognised would be noticed, or where no threshold exists.

    Raises:
        ValueError: A negative count, or a rate, confidence or power outside (0, 1).

    Example:
        >>> smallest_advantage(80, 20, 0.01) is None, round(smallest_advantage(80, 20, 0.05), 2)
        (True, 0.17)
    """
    check_confidence(confidence)
    if not 0 < power < 1 or members < 0 or non_members < 0:
        raise ValueError(f"power must lie in (0, 1) and counts be 0 or more, got {power}, {members}, {non_members}")
    k = _rank(false_positive_rate, non_members)
    if k == 0:
        return None
    return _least(members, non_members, k, confidence, power)


@lru_cache(maxsize=256)
def _least(members: int, non_members: int, k: int, confidence: float, power: float) -> float | None:
    enough = int(stats.betabinom.isf(1 - confidence, members, k, non_members + 1 - k)) + 1
    if enough > members:
        return None
    # The false positive rate that a threshold really has varies from one holdout to the next.
    realised = stats.beta.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, k, non_members + 1 - k)

    def missing(share: float) -> float:
        return float(np.mean(stats.binom.sf(enough - 1, members, share + (1 - share) * realised))) - power

    return float(optimize.brentq(missing, 0.0, 1.0)) if missing(0.0) < 0 else 0.0


def _rank(false_positive_rate: float, non_members: int) -> int:
    """Return which largest non-member is the threshold; 0 if there are too few of them."""
    if not 0 < false_positive_rate < 1:
        raise ValueError(f"a false positive rate must lie between 0 and 1, got {false_positive_rate}")
    return min(non_members, floor(false_positive_rate * (non_members + 1) + 1e-9))  # 0.1 * 30 is 3 but for rounding


def _rate_at(members: FloatVector, non_members: FloatVector, f: float, confidence: float) -> RateAt | None:
    m, n = members.size, non_members.size
    k = _rank(f, n)
    if k == 0:
        return None
    bounds = np.concatenate([[np.inf], -np.sort(-non_members), [-np.inf]])
    tail = (1 - confidence) / 4
    fewest = min(k, int(stats.binom.ppf(tail, n, f)))
    most = max(k - 1, int(stats.binom.isf(tail, n, f)))
    found, at_least, at_most = (int((members > bounds[rank]).sum()) for rank in (k, fewest, most + 1))
    within = (1 + confidence) / 2
    return RateAt(
        threshold=float(bounds[k]),
        found=found,
        value=found / m if m else nan,
        low=exact_interval(at_least, m, within).low,
        high=exact_interval(at_most, m, within).high,
        hits=exact_interval(found, m, confidence),
        alarms=Interval(*(float(stats.beta.ppf(q, k, n + 1 - k)) for q in (2 * tail, 1 - 2 * tail))),
        p=float(stats.betabinom.sf(found - 1, m, k, n + 1 - k)) if m else nan,
        smallest_advantage=smallest_advantage(m, n, f, confidence=confidence),
    )
