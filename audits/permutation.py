"""Exact tests by permuting which patients were trained on.

Where training and holdout patients were drawn at random from one population and the substitute cohort leaks nothing of
the former, the labels training/holdout are exchangeable given everything else. Whatever statistic is computed, its rank
among those of permuted labels is then a p-value (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585), and the smallest
p-value over many attacks has a permutation distribution too, which corrects for their number without losing power
because they resemble one another (Westfall & Young 1993, "Resampling-based multiple testing").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, nan

import numpy as np
import numpy.typing as npt
from scipy import stats

from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.points import FloatMatrix
from anonsynth.seeds import stream

__all__ = ["PERMUTATIONS", "AttackTests", "attack_tests", "isolated_test", "owner_test", "relabelled"]

PERMUTATIONS = 9999
SUBSETS = 1999
FEWEST = 5
"""With fewer patients on either side there is nothing to permute."""

BoolMatrix = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AttackTests:
    """P-values of several attacks, corrected for their number.

    Attributes:
        average: Of the area under the ROC curve, the best of all attacks.
        few: Of the true positive rate at the false positive rates that were asked for, the best of all.
        best: Which attack has the smallest p-value of the area.
        best_few: Which attack and which rate, by their numbers, have the smallest of the true positive rate.
    """

    average: float
    few: float
    best: int
    best_few: tuple[int, int]


def relabelled(members: int, others: int, repeats: int, rng: np.random.Generator) -> BoolMatrix:
    """Return (1 + repeats, members + others) labels: the true ones (members first), then permuted ones."""
    true = np.arange(members + others) < members
    return np.concatenate([true[None], rng.permuted(np.tile(true, (repeats, 1)), axis=1)])


def attack_tests(
    scores: FloatMatrix, members: int, rates: Sequence[float], seed: int, *, repeats: int = PERMUTATIONS
) -> AttackTests:
    """Test whether members score higher.

    Args:
        scores: (A, N) of A attacks; the first `members` of the N patients are training patients.
        members: Their number m.
        rates: False positive rates; those with no threshold among the N - m others are left out.
        seed: Of the permutations and of the order of equal scores.
        repeats: Permutations.

    Returns:
        P-values; NaN with fewer than five patients on a side, or where no rate has a threshold.

    Example:
        >>> found = attack_tests(np.arange(40.0)[None, ::-1], 20, (0.1,), 0, repeats=999)
        >>> found.average, found.few
        (0.001, 0.001)
    """
    others = scores.shape[1] - members
    if min(members, others) < FEWEST:
        return AttackTests(nan, nan, 0, (0, 0))
    rng = stream(seed, "audit", "permutation", "attacks")
    labels = relabelled(members, others, repeats, rng)
    ranks = [(number, floor(rate * (others + 1) + 1e-9)) for number, rate in enumerate(rates)]
    average, few, names = [], [], []
    for attack, values in enumerate(scores):
        order = np.lexsort((rng.random(values.size), -values))  # equal scores in random order: still exact
        sorted_labels = labels[:, order]
        average.append(-(sorted_labels.astype(np.float32) @ np.arange(values.size, dtype=np.float32)))
        passed = np.cumsum(~sorted_labels, axis=1, dtype=np.int32)
        for number, k in ranks:
            if k > 0:
                few.append((passed < k).sum(1) - (k - 1))
                names.append((attack, number))
    whole, best = _smallest(average)
    part, best_few = _smallest(few) if few else (nan, 0)
    return AttackTests(whole, part, best, names[best_few] if names else (0, 0))


def owner_test(weight: FloatVector, members: int, seed: int) -> tuple[float, float]:
    """Test whether members own more of something than as many others.

    Args:
        weight: (N,) what each patient owns; members come first.
        members: Their number.
        seed: Of the permutations.

    Returns:
        One-sided p-values: members own too much, the others own too much. NaN with too few patients.

    Example:
        >>> owner_test(np.repeat([1.0, 0.0], 20), 20, 0)
        (0.0001, 1.0)
    """
    others = weight.size - members
    if min(members, others) < FEWEST:
        return nan, nan
    labels = relabelled(members, others, PERMUTATIONS, stream(seed, "audit", "permutation", "owners"))
    owned = labels.astype(np.float64) @ weight.round(9)
    return float((owned >= owned[0] - 1e-9).mean()), float((owned <= owned[0] + 1e-9).mean())


def isolated_test(within: BoolMatrix, members: int, seed: int) -> tuple[FloatVector, int, float]:
    """Test whether predicates isolate members more often than as many others.

    Args:
        within: (G, N) which patients each of G predicates is true of; members come first.
        members: Their number.
        seed: Of the subsets.

    Returns:
        (R,) how many predicates isolate exactly one among random members, as many as there are on the smaller side;
        how many isolate exactly one among the others, likewise; the one-sided p-value, NaN with too few patients.
    """
    others = within.shape[1] - members
    size = min(members, others)
    rng = stream(seed, "audit", "permutation", "isolated")
    true = within.astype(np.float32)

    def isolated(patients: npt.NDArray[np.intp]) -> FloatVector:
        """Count for each of (R, size) choices of patients the predicates that isolate one."""
        chosen = np.zeros((within.shape[1], len(patients)), np.float32)
        np.put_along_axis(chosen, patients.T, 1, axis=0)
        counted: FloatVector = (true @ chosen == 1).sum(0).astype(np.float64)
        return counted

    def drawn(first: int, last: int) -> npt.NDArray[np.intp]:
        order = rng.permuted(np.tile(np.arange(first, last), (SUBSETS, 1)), axis=1)
        return np.ascontiguousarray(order[:, :size])

    inside = isolated(drawn(0, members))
    outside = isolated(drawn(members, members + others))
    if size < FEWEST:
        return inside, round(float(outside.mean())) if size else 0, nan
    anybody = isolated(drawn(0, members + others))
    if others <= members:
        p = (1 + (anybody <= isolated(np.arange(members, members + others)[None])[0]).sum()) / (SUBSETS + 1)
    else:
        p = (1 + (anybody >= isolated(np.arange(members)[None])[0]).sum()) / (SUBSETS + 1)
    return inside, round(float(outside.mean())), float(p)


def _smallest(statistics: Sequence[npt.NDArray[np.generic]]) -> tuple[float, int]:
    """Return the corrected p-value of the first row and which statistic is its best; larger is stronger."""
    rows = len(statistics[0])
    p = np.stack([stats.rankdata(-np.asarray(values, np.float64), method="max") / rows for values in statistics])
    least = p.min(0)
    return float((least <= least[0]).mean()), int(p[:, 0].argmin())
