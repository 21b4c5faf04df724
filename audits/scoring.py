"""From nearest neighbours to one calibrated p-value per generated scan.

The null is the holdout: a holdout patient beside the training patients is a real scan among those that the generator
saw, and copies none of them. Generated scans may not be like real ones, being smoother, of fewer shapes or of odd
extent, and may stand out for that alone. It shows beside the *holdout* patients too, of whom they can have copied
nobody. Where generated scans stand out there more than training patients do, who are real and no relatives of the
holdout either, a generated scan has to stand out from both: the larger of two p-values counts. Elsewhere being
generated does not show, and the holdout alone is the null.

The holdout is smaller than the training patients, and among fewer people the nearest stands out more, whoever looks.
What stands out there by so many mean excesses of the training patients beside the holdout (`alone`) is taken for as
many of theirs beside each other (`others`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

from anonsynth.audits.calibration import BoolVector, FloatVector, calibrate, q_values
from anonsynth.audits.closer import Aspect
from anonsynth.audits.crossed import NOBODY, Beside
from anonsynth.audits.nearest import Matches, Query
from anonsynth.audits.nearness import Usual, nearness, strongest_region, usual_of
from anonsynth.seeds import stream

__all__ = ["Null", "Scores", "flagged_alone", "make_null", "one_scan_per_patient", "score", "statistics_of"]

SAME_SCAN = 1e-3
CERTAINLY = 0.01
FEWEST_TO_TEST = 2
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
        odd: Whether those stand out more than real scans do there, so that they count.
        shared: Holdout scans whose image is also among the training scans; they are left out of `values`.
        labels_specific: False if a holdout label map coincides with a training one, so that equality proves nothing.
        usual: What is usual for real scans.
    """

    values: Mapping[Aspect, FloatVector]
    others: Mapping[Aspect, FloatVector]
    crossed: Mapping[Aspect, FloatVector]
    odd: bool
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

    def evidence(self, statistics: Mapping[Aspect, FloatVector]) -> FloatVector:
        """Join the aspects of N scans into one number: by how much the one stands out that stands out most.

        The training patients only say on which scale each aspect varies; what the largest of them amounts to is for
        the holdout to say, which has never been looked at for it. Aspects that the holdout lacks are left out.
        """
        return _evidence(statistics, self.others, _known(self.values, self.others))

    def evidence_of_others(self) -> FloatVector:
        """Return the same for the training patients themselves, each on the scale of all the others."""
        return _left_out(self.others, _known(self.values, self.others))


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
    odd = bool(beside.generated) and _stand_out(crossed, alone, _known(values, others))
    lifted = {aspect: _as_among(crossed[aspect], alone[aspect], others[aspect], aspect) for aspect in Aspect}
    return Null(values, others, lifted, odd, sum(shared), specific, usual)


def _known(values: Mapping[Aspect, FloatVector], others: Mapping[Aspect, FloatVector]) -> tuple[Aspect, ...]:
    """Return the aspects in which the holdout and enough training patients are known."""
    return tuple(a for a in Aspect if np.isfinite(values[a]).any() and np.isfinite(others[a]).sum() >= FEWEST_OTHERS)


def _evidence(
    statistics: Mapping[Aspect, FloatVector], among: Mapping[Aspect, FloatVector], aspects: Sequence[Aspect]
) -> FloatVector:
    """Return by how much each of N scans stands out in the aspect in which it does most, on the scale of others."""
    return _largest(
        [_in_units(statistics[aspect], among[aspect], aspect) for aspect in aspects],
        len(next(iter(statistics.values()))),
    )


def _left_out(statistics: Mapping[Aspect, FloatVector], aspects: Sequence[Aspect]) -> FloatVector:
    """Return the same of scans among themselves, each on the scale of all the others."""
    units = []
    for aspect in aspects:
        own = statistics[aspect]
        units.append(np.array([_in_units(own[[i]], np.delete(own, i), aspect)[0] for i in range(len(own))], np.float64))
    return _largest(units, len(next(iter(statistics.values()))))


def _stand_out(
    generated: Mapping[Aspect, FloatVector], real: Mapping[Aspect, FloatVector], aspects: Sequence[Aspect]
) -> bool:
    """Tell whether generated scans stand out among the same patients more than real ones do.

    By their means, which a few odd ones among many raise too (Welch's test at 0.01). What is too little for it makes
    p-values too small by a factor that grows with its mean: with 60 scans on either side, 1.6 on the brink. Were both
    nulls to count for less, the larger of two p-values that differ by chance alone would often be too large.
    """
    usable = [aspect for aspect in aspects if np.isfinite(real[aspect]).sum() > FEWEST_OTHERS]
    if not usable:
        return True
    own, others = (x[np.isfinite(x)] for x in (_evidence(generated, real, usable), _left_out(real, usable)))
    if min(len(own), len(others)) < FEWEST_TO_TEST:
        return False
    # Scans may be all the same: then any difference is certain.
    moments = [value for x in (own, others) for value in (x.mean(), max(float(x.std(ddof=1)), SMALLEST_EXCESS), len(x))]
    test = stats.ttest_ind_from_stats(*moments, equal_var=False, alternative="greater")
    return float(test.pvalue) < CERTAINLY


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
            calibrated = calibrate(statistics[aspect], null.values[aspect], null.others[aspect])
            p[aspect], extrapolated[aspect] = calibrated.p, calibrated.extrapolated
    evidence = null.evidence(statistics)
    combined = calibrate(evidence, null.evidence(null.values), null.evidence_of_others()).p
    if null.odd and not without_own:
        beside = {aspect: calibrate(statistics[aspect], null.crossed[aspect]).p for aspect in Aspect}
        p = {aspect: _larger(p[aspect], beside[aspect], null.crossed[aspect]) for aspect in Aspect}
        crossed = null.evidence(null.crossed)
        combined = _larger(combined, calibrate(evidence, crossed).p, crossed)
    return Scores(statistics, p, extrapolated, np.where(np.isnan(combined), 1.0, combined))


def _larger(p: FloatVector, other: FloatVector, null: FloatVector) -> FloatVector:
    """Return the larger of two p-values; the first where the second has no null."""
    return np.maximum(p, other) if np.isfinite(null).any() else p


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
