"""From nearest neighbours to one calibrated p-value per generated scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from anonsynth.audits.calibration import BoolVector, FloatVector, bonferroni, calibrate, q_values
from anonsynth.audits.nearest import Matches, Query, relative_nearness
from anonsynth.audits.views import View
from anonsynth.seeds import stream

__all__ = ["Null", "Scores", "flagged_alone", "make_null", "one_scan_per_patient", "score"]

SAME_SCAN = 1e-3


@dataclass(frozen=True, slots=True)
class Null:
    """What nearness looks like where nobody was copied.

    Attributes:
        values: Per view (n,) the statistic of one scan of each holdout patient; NaN where the view is missing.
        shared: Holdout scans whose image is also among the training scans; they are left out of `values`.
        labels_specific: False if a holdout label map coincides with a training one, so that equality proves nothing.
    """

    values: Mapping[View, FloatVector]
    shared: int
    labels_specific: bool

    def size(self, view: View) -> int:
        """Number of holdout patients that the view was calibrated on."""
        return int(np.isfinite(self.values[view]).sum())


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of N scans.

    Attributes:
        statistics: Per view (N,) relative nearness; NaN where there is nothing to compare.
        p: Per view (N,) p-values; NaN likewise.
        extrapolated: Per view (N,) whether the value lies beyond every holdout value.
        combined: (N,) one p-value per scan, all views together.
    """

    statistics: Mapping[View, FloatVector]
    p: Mapping[View, FloatVector]
    extrapolated: Mapping[View, BoolVector]
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


def make_null(holdout: Sequence[Matches]) -> Null:
    """Collect the null from one scan of each holdout patient."""
    images = (View.INTENSITY, View.STRUCTURE)
    shared = [all(_nearest_distance(m, view) < SAME_SCAN for view in images) for m in holdout]
    kept = [m for m, twice in zip(holdout, shared, strict=True) if not twice]
    values = {view: np.array([relative_nearness(m, view) for m in kept]) for view in View}
    specific = all(_nearest_distance(m, View.LABEL) >= SAME_SCAN for m in kept)
    return Null(values, sum(shared), specific)


def score(matches: Sequence[Matches], null: Null, *, without_own: bool = False) -> Scores:
    """Score scans against the null.

    Args:
        matches: What each scan resembles.
        null: From the holdout.
        without_own: Leave a scan's own patient out, for training patients looked up among the others.
    """
    statistics, p, extrapolated = {}, {}, {}
    for view in View:
        own = (m.patient if without_own else None for m in matches)
        statistics[view] = np.array(
            [relative_nearness(m, view, without=patient) for m, patient in zip(matches, own, strict=True)], np.float64
        )
        if null.size(view) == 0:
            p[view], extrapolated[view] = np.full(len(matches), np.nan), np.zeros(len(matches), bool)
        else:
            calibrated = calibrate(statistics[view], null.values[view])
            p[view], extrapolated[view] = calibrated.p, calibrated.extrapolated
    return Scores(statistics, p, extrapolated, bonferroni(np.stack([p[view] for view in View])))


def flagged_alone(planted: FloatVector, generated: FloatVector, q: float) -> BoolVector:
    """Tell which of (M,) planted p-values would be flagged if each were planted alone among the generated scans."""
    return np.array([q_values(np.append(generated, p))[-1] <= q for p in planted], bool)


def _nearest_distance(matches: Matches, view: View) -> float:
    return matches.views[view][0].distance if matches.views[view] else float("inf")
