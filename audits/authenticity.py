"""Which generated scans are nearer to a training scan than training scans are to one another?

Authenticity of Alaa, van Breugel, Saveliev and van der Schaar 2022 (arXiv 2102.08921): a candidate is authentic if it
lies farther from its nearest training scan than that scan lies from its own nearest neighbour among the training scans.
Two scans of one patient are alike because they are the same patient; counted as neighbours they would shrink the
yardstick and let copies pass, so a neighbour must be another patient.

The rate means nothing by itself. Unseen patients of the same population are not all authentic either, often fewer than
half, and how many depends on dimension and cohort size: the holdout's own rate is what no copying looks like.
A smooth generator, nearer to everybody, has a low rate without having copied anybody.

The intervals hold for this training set and for candidates that are independent given it: one scan per holdout patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from anonsynth.audits.calibration import BoolVector
from anonsynth.audits.points import as_points
from anonsynth.audits.rates import Rate, check_confidence, rate

__all__ = ["Authenticity", "authentic", "authenticity"]


@dataclass(frozen=True, slots=True)
class Authenticity:
    """The rate of generated scans that are authentic, beside the rate of unseen patients.

    Attributes:
        generated: Of the generated scans.
        holdout: Of the holdout scans. Both have `of` 0 where the training scans are not of two patients at least.
    """

    generated: Rate
    holdout: Rate


def authentic(
    candidates: npt.ArrayLike, train: npt.ArrayLike, train_patients: Sequence[str] | None = None
) -> BoolVector:
    """Tell which candidates are authentic.

    Args:
        candidates: (M, D) features.
        train: (N, D) of training scans.
        train_patients: (N,) whose scan each is; without it, every scan counts as a patient of its own.

    Returns:
        (M,) True where authentic. Of several equally near training scans the one farthest from its neighbour decides,
        so that the order of the scans does not matter; at equal distances a candidate is not authentic.

    Raises:
        ValueError: Shapes that do not match, values that are not finite, or training scans of fewer than two patients.

    Example:
        >>> train = [[0.0], [1.0], [5.0]]
        >>> authentic([[0.9], [2.5], [7.0]], train).tolist()
        [False, True, False]
    """
    records = as_points("train", train)
    points = as_points("candidates", candidates, width=records.shape[1])
    patients = _patient_numbers(train_patients, len(records))
    if np.unique(patients).size < 2:
        raise ValueError(f"train must hold scans of at least two patients, got {np.unique(patients).size}")
    between = cdist(records, records)
    between[patients[:, None] == patients[None, :]] = np.inf
    away = cdist(points, records)
    nearest = away.min(1)
    yardstick = np.where(away == nearest[:, None], between.min(1), -np.inf).max(1)
    farther: BoolVector = nearest > yardstick
    return farther


def authenticity(
    generated: npt.ArrayLike,
    holdout: npt.ArrayLike,
    train: npt.ArrayLike,
    train_patients: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> Authenticity:
    """Return the rate of authentic scans among the generated ones and among the holdout.

    Args:
        generated: (G, D) features of generated scans.
        holdout: (H, D) of scans of unseen patients, one per patient.
        train: (N, D) of training scans.
        train_patients: (N,) whose scan each is; without it, every scan counts as a patient of its own.
        confidence: Of the exact intervals, in (0, 1).

    Raises:
        ValueError: Shapes that do not match, values that are not finite, or a confidence outside (0, 1).

    Example:
        >>> answer = authenticity([[0.0], [1.1]], [[2.5], [9.0]], [[0.0], [1.0], [5.0]])
        >>> answer.generated.value, answer.holdout.value
        (0.0, 0.5)
    """
    check_confidence(confidence)
    records = as_points("train", train)
    made = as_points("generated", generated, width=records.shape[1])
    unseen = as_points("holdout", holdout, width=records.shape[1])
    if np.unique(_patient_numbers(train_patients, len(records))).size < 2:
        return Authenticity(rate(0, 0, confidence), rate(0, 0, confidence))
    found = [authentic(points, records, train_patients) for points in (made, unseen)]
    of_made, of_unseen = (rate(int(flags.sum()), flags.size, confidence) for flags in found)
    return Authenticity(of_made, of_unseen)


def _patient_numbers(patients: Sequence[str] | None, scans: int) -> npt.NDArray[np.intp]:
    """Number the patients; without names every scan gets a number of its own."""
    if patients is None:
        return np.arange(scans)
    if len(patients) != scans:
        raise ValueError(f"train_patients must name the patient of each of {scans} training scans, got {len(patients)}")
    numbers: npt.NDArray[np.intp] = np.unique(np.asarray(patients, str), return_inverse=True)[1]
    return numbers
