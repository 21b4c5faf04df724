"""The Gaussian mechanism on a sum over patients, and the means and second moments that follow from it.

The unit is the patient: a patient's scans are averaged into one vector first (`average_scans`), and a patient who is
given twice is refused. Neighbours are cohorts with one patient more or less.

**Sensitivity.** Patient i contributes the vector vᵢ = (clip(xᵢ, C), κ·C): xᵢ shortened to a length of at most C, and a
constant from which the number of patients follows, because that number is private too. One patient more or less changes
the sum of all vᵢ by one of them, hence by at most

    Δ = sup ‖vᵢ‖₂ = C·√(1 + κ²).

Normal noise of standard deviation σ·Δ in each coordinate makes one `Gaussian(noise_multiplier=σ)` (Dwork & Roth 2014,
appendix A, doi:10.1561/0400000042; its exact ε by Balle & Wang 2018, arXiv 1805.06530).

**Rounding.** Sums of floating-point numbers betray the order and the small digits of what was summed (Mironov 2012,
doi:10.1145/2382196.2382264; Casacuberta et al. 2022, arXiv 2207.10635). So contributions are cut, towards 0, to whole
multiples of Δ/2²⁰, which never makes them longer, are summed exactly as integers, and the noise is rounded to the same
multiples: what leaves is a rounding of sum plus noise, and rounding is post-processing.

Everything computed from what these functions return is post-processing and costs nothing more. Bounds, centres and
scales must be constants that do not depend on the cohort.

Zone: spending.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.errors import InternalError, UsageError
from anonsynth.privacy.events import Gaussian
from anonsynth.privacy.randomness import PrivateRandomness

__all__ = [
    "COUNT_SHARE",
    "NoisySum",
    "Query",
    "average_scans",
    "clipped",
    "nearest_covariance",
    "noisy_sum",
    "packed_products",
    "sensitivity",
    "unpacked_products",
]

COUNT_SHARE = 0.25
"""κ: how long the patient's constant is beside the bound C; it lengthens the vector by 3 %."""
STEPS = 2**20
"""Whole multiples of the sensitivity that sums are computed in."""

Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Query:
    """A sum over patients that is going to be released; all of it is public.

    Attributes:
        name: In small letters; no two queries of one draw share it.
        size: Length of a patient's vector.
        bound: C, the length to which it is clipped.
        noise_multiplier: σ, standard deviation of the noise over the sensitivity.
    """

    name: str
    size: int
    bound: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        """Refuse what is no mechanism."""
        if not (self.size >= 1 and 0 < self.bound < math.inf and 0 < self.noise_multiplier < math.inf):
            msg = f"the query '{self.name}' needs a size, a bound and noise above 0"
            raise UsageError(msg)

    @property
    def event(self) -> Gaussian:
        """What releasing it does, for the ledger."""
        return Gaussian(noise_multiplier=self.noise_multiplier)

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on each coordinate of the sum."""
        return self.noise_multiplier * sensitivity(self.bound)


@dataclass(frozen=True, slots=True)
class NoisySum:
    """What was released of a query.

    Attributes:
        total: (D,) sum over patients of their clipped vectors, with noise.
        count: Number of patients, with noise.
        deviation: Standard deviation of the noise on each coordinate of `total`.
        count_deviation: Standard deviation of the noise on `count`.
    """

    total: Floats64
    count: float
    deviation: float
    count_deviation: float

    def mean(self, count: float | None = None) -> Floats64:
        """Return total ÷ patients, (D,); for `count` a better number of patients may be given than this sum's own.

        Where the number is lost in the noise, its upper end divides: means are drawn to 0, never blown up.
        """
        return self.total / self._divisor(count)

    def mean_deviation(self, count: float | None = None) -> float:
        """Return the standard deviation of the noise on each coordinate of `mean`."""
        return self.deviation / self._divisor(count)

    def _divisor(self, count: float | None) -> float:
        return max(self.count, self.count_deviation, 1.0) if count is None else max(count, 1.0)


def sensitivity(bound: float) -> float:
    """Return Δ = C·√(1 + κ²), the most that one patient changes the vector of sum and count, in the L2 norm."""
    return bound * math.sqrt(1 + COUNT_SHARE**2)


def average_scans(scans: Iterable[tuple[str, Floats64]]) -> dict[str, Floats64]:
    """Return one vector a patient: the mean over that patient's scans.

    Args:
        scans: (patient, (D,) vector) of every scan, in any order. What a scan does not tell is NaN: a coordinate is
            averaged over the patient's scans that do, and is 0 (its public centre) if none does.
    """
    sums: dict[str, Floats64] = {}
    told: dict[str, Floats64] = {}
    for patient, vector in scans:
        known = ~np.isnan(vector)
        sums[patient] = sums.get(patient, np.zeros(len(vector))) + np.where(known, vector, 0)
        told[patient] = told.get(patient, np.zeros(len(vector))) + known
    return {patient: total / np.maximum(told[patient], 1) for patient, total in sums.items()}


def clipped(vector: Floats64, bound: float) -> Floats64:
    """Return the vector (D,), shortened to a length of at most `bound` if it is longer."""
    length = float(np.linalg.norm(vector))
    return vector if length <= bound else vector * (bound / length)


def noisy_sum(
    query: Query, patients: Iterable[tuple[str, Floats64]] | Mapping[str, Floats64], randomness: PrivateRandomness
) -> NoisySum:
    """Release a query: clip each patient's vector, sum, add noise.

    The spend has to be in the ledger before this is called.

    Args:
        query: What is released.
        patients: (patient, (D,) vector), each patient once.
        randomness: Of the noise.

    Raises:
        InternalError: If a patient is given twice, or a vector is of another length or not finite.
    """
    delta = sensitivity(query.bound)
    step = delta / STEPS
    total = np.zeros(query.size + 1, np.int64)
    seen: set[str] = set()
    for patient, vector in patients.items() if isinstance(patients, Mapping) else patients:
        if patient in seen:
            msg = f"a patient was given twice to the release '{query.name}'; average the patient's scans first"
            raise InternalError(msg)
        if vector.shape != (query.size,) or not np.isfinite(vector).all():
            msg = f"a patient's vector for the release '{query.name}' is not what was declared"
            raise InternalError(msg)
        seen.add(patient)
        whole = np.append(clipped(vector.astype(np.float64), query.bound), COUNT_SHARE * query.bound)
        total += _towards_zero(whole, step)
    noise = np.rint(randomness.normal(query.size + 1, "noise", query.name).numpy() * (query.noise_multiplier * STEPS))
    released: Floats64 = (total + noise.astype(np.int64)).astype(np.float64) * step
    # One patient's constant as it was summed, not before it was cut to whole steps.
    one = float(_towards_zero(np.array([COUNT_SHARE * query.bound]), step)[0] * step)
    return NoisySum(released[:-1], float(released[-1]) / one, query.deviation, query.deviation / one)


def packed_products(vector: Floats64) -> Floats64:
    """Return x·xᵀ of a vector (D,) as (D·(D + 1)/2,): its L2 norm is the Frobenius norm of the matrix, ‖x‖².

    Entries off the diagonal stand once for two, so they are multiplied by √2.
    """
    rows, columns = np.triu_indices(len(vector))
    products: Floats64 = vector[rows] * vector[columns] * np.where(rows == columns, 1.0, math.sqrt(2))
    return products


def unpacked_products(packed: Floats64) -> Floats64:
    """Return the symmetric matrix (D, D) that `packed_products` packed."""
    size = (math.isqrt(8 * len(packed) + 1) - 1) // 2
    rows, columns = np.triu_indices(size)
    matrix = np.zeros((size, size))
    matrix[rows, columns] = packed / np.where(rows == columns, 1.0, math.sqrt(2))
    return matrix + np.triu(matrix, 1).T


def nearest_covariance(matrix: Floats64, least: float = 0.0) -> Floats64:
    """Return the covariance (D, D) nearest to a symmetric matrix in the Frobenius norm: eigenvalues below `least` rise.

    Higham 1988, doi:10.1016/0024-3795(88)90223-6.
    """
    values, axes = np.linalg.eigh((matrix + matrix.T) / 2)
    nearest: Floats64 = (axes * np.maximum(values, least)) @ axes.T
    return nearest


def _towards_zero(vector: Floats64, step: float) -> npt.NDArray[np.int64]:
    """Return how many whole steps each coordinate is long: no vector gets longer by it."""
    return np.trunc(vector / step).astype(np.int64)
