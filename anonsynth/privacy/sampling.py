"""Who takes part in a step: each patient by her own coin (Poisson), and a look at whether that is what happened.

Sampling makes a step cheaper by about the rate at which patients are drawn, but only for the sampling that is in the
proof: every patient independently of all others with probability q (Poisson), so that batches differ in size and may be
empty. Batches of a fixed size, or a shuffled cohort cut into batches, have another price that is often higher (Chua et
al. 2024, arXiv 2403.17673), and the accountant's number does not hold for them.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonsynth.errors import InternalError
from anonsynth.privacy.randomness import PrivateRandomness

__all__ = ["ALARM", "Participation", "check_participation", "draw_patients"]

ALARM = 1e-9
"""Probability with which a sampler that is right is called wrong; it adds as much to δ, which is never below 10⁻¹⁰."""


def draw_patients(patients: Sequence[str], rate: float, randomness: PrivateRandomness, step: int) -> tuple[str, ...]:
    """Return the patients who take part in a step, in the cohort's order; perhaps nobody.

    A patient's coin depends on the secret, the step and her pseudonym, not on who else is in the cohort: with one
    patient more, everybody else's coins fall as before.

    Args:
        patients: Pseudonyms, each once.
        rate: Probability with which each takes part.
        randomness: The run's.
        step: From 0.
    """
    key = randomness.draw(32, "participation", step)
    return tuple(patient for patient in patients if _coin(key, patient) < rate)


def _coin(key: bytes, patient: str) -> float:
    """Return a number in [0, 1) that HMAC-SHA-256 makes of the patient's pseudonym."""
    digest = hmac.digest(key, patient.encode(), hashlib.sha256)
    return (int.from_bytes(digest[:8], "little") >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Participation:
    """Who took part in a run: private, as it is about patients.

    Attributes:
        batches: (steps,) how many patients took part in each step.
        patients: (patients,) in how many steps each took part.
        rate: The probability that was promised.
    """

    batches: npt.NDArray[np.int64]
    patients: npt.NDArray[np.int64]
    rate: float


def check_participation(seen: Participation) -> None:
    """Compare a run's own log with what independent coins do; call it before anything of the run is released.

    Three numbers are as good as known under independent coins: how many took part in all, how much batches differ in
    size, and how much patients differ in how often they took part. Batches of one size do not differ, patients of a
    shuffled cohort take part equally often, blocks of patients who are drawn together differ too much. An alarm depends
    on the coins alone, never on what patients' scans hold. The bounds are Chernoff's (1952,
    doi:10.1214/aoms/1177729330), which hold for any number of patients and steps.

    Raises:
        InternalError: If coins would look like this with a probability below 10⁻⁹.
    """
    steps, patients = len(seen.batches), len(seen.patients)
    total = int(seen.batches.sum())
    if total != int(seen.patients.sum()) or steps * patients == 0:
        msg = "the log of who took part in the private steps contradicts itself; nothing of this run may be released"
        raise InternalError(msg)
    chances = (
        _chance_of_total(total, steps * patients, seen.rate),
        _chance_of_spread(seen.batches, patients, seen.rate),
        _chance_of_spread(seen.patients, steps, seen.rate),
    )
    # Each bound is the better of two tails, hence six of them.
    if min(chances) + math.log(2 * len(chances)) < math.log(ALARM):
        msg = (
            "patients did not take part as independent coins would have it, and the guarantee rests on that; "
            "nothing of this run may be released"
        )
        raise InternalError(msg)


def _chance_of_total(total: int, trials: int, rate: float) -> float:
    """Bound the logarithm of the probability that `total` of `trials` coins or more, or fewer, show heads."""
    share = total / trials
    bits = [(share, rate), (1 - share, 1 - rate)]
    if any(p > 0 and q == 0 for p, q in bits):
        return -math.inf
    return -trials * sum(p * math.log(p / q) for p, q in bits if p > 0)


def _chance_of_spread(counts: npt.NDArray[np.int64], trials: int, rate: float) -> float:
    """Bound the logarithm of the probability that independent binomial counts differ so much, or so little."""
    if rate == 1:
        return 0.0  # everybody takes part; the total says whether they did
    k = np.arange(trials + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    log_mass = log_factorial[-1] - log_factorial - log_factorial[::-1] + k * np.log(rate) + k[::-1] * np.log1p(-rate)
    distance = (k - trials * rate) ** 2 / (trials * rate * (1 - rate))
    seen = float(distance[counts].sum())
    tilts = np.logspace(-4, 2, 61)
    bounds = [len(counts) * _log_mean(log_mass + tilt * distance) - tilt * seen for tilt in (*tilts, *-tilts)]
    return float(min(bounds))


def _log_mean(log_terms: npt.NDArray[np.float64]) -> float:
    highest = float(log_terms.max())
    return highest + math.log(float(np.exp(log_terms - highest).sum()))
