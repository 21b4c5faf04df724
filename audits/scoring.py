"""From nearest neighbours to one calibrated p-value per generated scan.

Two kinds of pairs say what nearness looks like where nobody was copied. A holdout patient beside the training patients
is a real scan among those that the generator saw; a generated scan beside the *holdout* patients is a generated scan
among real ones that it never saw. Generated scans are not like real ones, being smoother, of fewer shapes or of odd
extent, and what is nothing but that shows beside both sides alike. Both kinds together are the one null of which a
p-value is taken.

The holdout is smaller than the training patients, and among fewer people the nearest stands out more, whoever looks.
By how much is known from real scans: training patients are looked up among the holdout too (`alone` beside `among`),
and what stands out there by so many of *their* mean excesses is taken for as many among the training patients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from anonsynth.audits.calibration import BoolVector, FloatVector, calibrate, q_values
from anonsynth.audits.closer import Aspect
from anonsynth.audits.crossed import NOBODY, Beside
from anonsynth.audits.nearest import Matches, Query
from anonsynth.audits.nearness import Usual, nearness, strongest_region, usual_of
from anonsynth.seeds import stream

__all__ = ["Null", "Scores", "flagged_alone", "make_null", "one_scan_per_patient", "score", "statistics_of"]

SAME_SCAN = 1e-3
FEWEST_OTHERS = 4
SMALLEST_EXCESS = 0.02
"""Nobody is singled out by being nearer by less than this: a null may be narrow by chance or by construction."""
EXCESS_OF_MEDIAN = 0.4
SAME_IMAGE = (Aspect.INTENSITY, Aspect.EDGES)


@dataclass(frozen=True, slots=True)
class Null:
    """What nearness looks like where nobody was copied.

    Attributes:
        values: Per aspect (n,) the statistic of one scan of each holdout patient; NaN where the aspect is missing.
        others: Per aspect (m,) the statistic of training patients looked up among the *other* training patients.
        crossed: Per aspect (c,) the statistic of generated scans looked up among the holdout patients, as it would be
            among as many as the training patients; all empty where those are too few.
        shared: Holdout scans whose image is also among the training scans; they are left out of `values`.
        labels_specific: False if a holdout label map coincides with a training one, so that equality proves nothing.
        usual: What is usual for real scans.
    """

    values: Mapping[Aspect, FloatVector]
    others: Mapping[Aspect, FloatVector]
    crossed: Mapping[Aspect, FloatVector]
    shared: int
    labels_specific: bool
    usual: Usual

    def size(self, aspect: Aspect) -> int:
        """Number of holdout patients that the aspect was calibrated on."""
        return int(np.isfinite(self.values[aspect]).sum())

    def calibrated(self, domain: str) -> bool:
        """Whether the holdout can say how near is too near, in every aspect in which there is anything to copy."""
        used = [aspect for aspect in Aspect if aspect.domain == domain and np.isfinite(self.others[aspect]).any()]
        return bool(used) and all(self.size(aspect) > 1 for aspect in used)

    def joined(self, aspect: Aspect) -> FloatVector:
        """Both kinds of pairs of an aspect, (n + c,)."""
        return np.concatenate([self.values[aspect], self.crossed[aspect]])

    def evidence_of_joined(self) -> FloatVector:
        """The evidence of both kinds of pairs, (n + c,)."""
        return np.concatenate([self.evidence(self.values), self.evidence(self.crossed)])

    def evidence(self, statistics: Mapping[Aspect, FloatVector]) -> FloatVector:
        """Join the aspects of N scans into one number: by how much the one stands out that stands out most.

        The training patients only say on which scale each aspect varies; what the largest of them amounts to is for
        the holdout to say, which has never been looked at for it. Aspects that the holdout lacks are left out.
        """
        units = [_in_units(statistics[aspect], self.others[aspect], aspect) for aspect in self._known()]
        return _largest(units, len(next(iter(statistics.values()))))

    def evidence_of_others(self) -> FloatVector:
        """Return the same for the training patients themselves, each on the scale of all the others."""
        units = []
        for aspect in self._known():
            own = self.others[aspect]
            units.append(
                np.array([_in_units(own[[i]], np.delete(own, i), aspect)[0] for i in range(len(own))], np.float64)
            )
        return _largest(units, len(next(iter(self.others.values()))))

    def _known(self) -> tuple[Aspect, ...]:
        return tuple(a for a in Aspect if self.size(a) and np.isfinite(self.others[a]).sum() >= FEWEST_OTHERS)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of N scans.

    Attributes:
        statistics: Per aspect (N,) relative nearness; NaN where there is nothing to compare.
        p: Per aspect (N,) p-values of that aspect alone; NaN likewise.
        extrapolated: Per aspect (N,) whether the value lies beyond every holdout value.
        combined: (N,) one p-value per scan, all aspects together; 1 where nothing can be compared.
    """

    statistics: Mapping[Aspect, FloatVector]
    p: Mapping[Aspect, FloatVector]
    extrapolated: Mapping[Aspect, BoolVector]
    combined: FloatVector


Looked = TypeVar("Looked", Query, Matches)


def one_scan_per_patient(queries: Sequence[Looked], seed: int, name: str) -> tuple[Looked, ...]:
    """Draw one scan of each patient, so that the null's values are as independent as its patients.

    The smallest or largest value of a patient's scans would belong to another distribution than a generated scan's.
    """
    rng = stream(seed, "audit", name)
    scans: dict[str, list[Looked]] = {}
    for query in sorted(queries, key=lambda query: query.scan):
        scans.setdefault(query.patient, []).append(query)
    return tuple(own[int(rng.integers(len(own)))] for own in scans.values())


def make_null(
    holdout: Sequence[Matches],
    training: Sequence[Matches],
    beside: Beside = NOBODY,
    students: Collection[str] = (),
) -> Null:
    """Collect the null.

    Args:
        holdout: What one scan of each holdout patient resembles.
        training: What one scan of each of some training patients resembles; their own scans do not count.
        beside: What some generated scans, and the same training patients, resemble among the holdout patients.
        students: Training patients that the network learned from; what it sees in them says nothing of others.
    """
    shared = [all(_nearest_distance(m, aspect) < SAME_SCAN for aspect in SAME_IMAGE) for m in holdout]
    kept = [m for m, twice in zip(holdout, shared, strict=True) if not twice]
    specific = all(_nearest_distance(m, Aspect.LABEL) >= SAME_SCAN for m in kept)
    usual = usual_of([*kept, *training], without_own=True)
    values = statistics_of(kept, usual)
    others = _unseen(statistics_of(training, usual, without_own=True), training, students)
    alone = _unseen(statistics_of(beside.training, usual_of(beside.training)), beside.training, students)
    crossed = statistics_of(beside.generated, usual_of(beside.generated, beside=usual))
    lifted = {aspect: _as_among(crossed[aspect], alone[aspect], others[aspect], aspect) for aspect in Aspect}
    return Null(values, others, lifted, sum(shared), specific, usual)


def _unseen(
    statistics: Mapping[Aspect, FloatVector], training: Sequence[Matches], students: Collection[str]
) -> Mapping[Aspect, FloatVector]:
    """Leave out what the network sees in those it learned from."""
    unseen = np.array([match.patient not in students for match in training], bool)
    return {**statistics, Aspect.LEARNED: np.where(unseen, statistics[Aspect.LEARNED], np.nan)}


def _as_among(values: FloatVector, alone: FloatVector, among: FloatVector, aspect: Aspect) -> FloatVector:
    """Say of statistics found beside the holdout what they would be beside the training patients.

    Args:
        values: (c,) of generated scans beside the holdout.
        alone: (m,) of training patients beside the holdout.
        among: (m,) of the same training patients beside the others.
        aspect: Which.
    """
    if min(np.isfinite(alone).sum(), np.isfinite(among).sum()) < FEWEST_OTHERS:
        return values
    (middle, excess), (there, unit) = _scale(alone, aspect), _scale(among, aspect)
    return there + (values - middle) / excess * unit


def statistics_of(
    matches: Sequence[Matches], usual: Usual, *, without_own: bool = False
) -> Mapping[Aspect, FloatVector]:
    """Return the (N,) relative nearness of N scans per aspect.

    Args:
        matches: What each scan resembles.
        usual: For scans of their kind.
        without_own: Leave a scan's own patient out.
    """
    columns: dict[Aspect, list[float]] = {aspect: [] for aspect in Aspect}
    for match in matches:
        without = match.patient if without_own else None
        for aspect, column in columns.items():
            if aspect is Aspect.REGION:
                column.append(strongest_region(match, usual, without=without))
            else:
                column.append(nearness(match, aspect, usual, without=without))
    return {aspect: np.array(column, np.float64) for aspect, column in columns.items()}


def score(matches: Sequence[Matches], null: Null, usual: Usual, *, without_own: bool = False) -> Scores:
    """Score scans against the null.

    Args:
        matches: What each scan resembles.
        null: From the holdout.
        usual: For scans of their kind: the null's for real scans, that of all generated ones for those.
        without_own: These are real scans, training patients looked up among the others; the holdout alone judges them.
    """
    statistics = statistics_of(matches, usual, without_own=without_own)
    p, extrapolated = {}, {}
    for aspect in Aspect:
        if null.size(aspect) == 0:
            p[aspect], extrapolated[aspect] = np.full(len(matches), np.nan), np.zeros(len(matches), bool)
        else:
            known = null.values[aspect] if without_own else null.joined(aspect)
            calibrated = calibrate(statistics[aspect], known, null.others[aspect])
            p[aspect], extrapolated[aspect] = calibrated.p, calibrated.extrapolated
    known = null.evidence(null.values) if without_own else null.evidence_of_joined()
    combined = calibrate(null.evidence(statistics), known, null.evidence_of_others()).p
    return Scores(statistics, p, extrapolated, np.where(np.isnan(combined), 1.0, combined))


def flagged_alone(planted: FloatVector, generated: FloatVector, q: float) -> BoolVector:
    """Tell which of (M,) planted p-values would be flagged if each were planted alone among the generated scans."""
    return np.array([q_values(np.append(generated, p))[-1] <= q for p in planted], bool)


def _in_units(values: FloatVector, others: FloatVector, aspect: Aspect) -> FloatVector:
    """Return how far values lie above the median of others, in mean excesses of those above it.

    Where the tail is exponential, as `calibration` explains, that is -log of the tail's probability up to a constant,
    without the uncertainty of the fit, which is for the calibration to add once.
    """
    median, excess = _scale(others, aspect)
    units: FloatVector = (values - median) / excess
    return units


def _scale(others: FloatVector, aspect: Aspect) -> tuple[float, float]:
    """Return the median of others and the mean excess of those above it.

    Two bounds keep one aspect from setting for all of them what standing out means. The largest of k excesses is about
    log(k) + 0.577 of their mean; where it is more, the tail is longer, and that larger scale counts. And the excess is
    about half of the median wherever it was measured; where few others show less than 0.4 of it, that is chance.
    """
    known = others[np.isfinite(others)]
    median = float(np.median(known))
    above = known[known > median] - median
    excess = max(float(above.mean()), float(above.max()) / (np.log(above.size) + np.euler_gamma)) if above.size else 0.0
    # Regions are measured by mean and spread already; all the others are log ratios.
    least = SMALLEST_EXCESS if aspect is Aspect.REGION else max(SMALLEST_EXCESS, EXCESS_OF_MEDIAN * median)
    return median, max(excess, least)


def _largest(units: Sequence[FloatVector], count: int) -> FloatVector:
    """Return the largest of several (N,) values; NaN where there is none."""
    if not units:
        return np.full(count, np.nan)
    stacked = np.stack(units)
    largest = np.where(np.isnan(stacked), -np.inf, stacked).max(0)
    return np.where(np.isfinite(largest), largest, np.nan)


def _nearest_distance(matches: Matches, aspect: Aspect) -> float:
    return matches.found[aspect][0].distance if matches.found[aspect] else float("inf")
