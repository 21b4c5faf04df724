"""How much more often does an attack succeed against training patients than against unseen ones?

The arithmetic of Anonymeter (Giomi et al., PETS 2023, arXiv 2211.10459). An attack that succeeds against people who are
not in the data has learnt about the population; only what it gains beyond that is a risk to those who are in it:
residual risk = (attack - control) / (1 - control), the share of the remaining possible successes that being in the
training set gives away. Rates and their errors are Wilson's (doi:10.1080/01621459.1927.10502953); the error of the risk
is propagated to first order from both, taken as independent, so with a handful of attacks it is rough.

An attack that does no better than guessing has shown nothing, whatever risk comes out: a weak attack and a safe cohort
look the same. Anonymeter warns if the rate of the attack does not exceed that of the guesses; here it must exceed it by
more than chance (Fisher's exact test, one-sided), because with few patients the larger of two equal rates is a coin's
choice. A control that does better than the attack by more than chance is not trusted either: the two groups differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, nan, sqrt

import numpy as np
from scipy import stats

from anonsynth.audits.rates import check_confidence

__all__ = ["Risk", "SuccessRate", "Successes", "residual_risk", "success_rate"]


@dataclass(frozen=True, slots=True)
class Successes:
    """How often an attack succeeded.

    Attributes:
        found: Successful attacks.
        of: Attacks tried; may be 0.

    Raises:
        ValueError: Not 0 <= found <= of.
    """

    found: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.found <= self.of:
            raise ValueError(f"successes need 0 <= found <= of, got {self.found} of {self.of}")


@dataclass(frozen=True, slots=True)
class SuccessRate:
    """Wilson's interval and its middle, all in [0, 1]; the middle is NaN where nothing was tried.

    The middle is not found / of but lies between that and one half, the nearer to one half the fewer attacks.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Risk:
    """The residual risk.

    Attributes:
        value: In [0, 1], 0 where the control did better than the attack; NaN where it cannot be measured.
        low: In [0, 1].
        high: In [0, 1]; 1 where it cannot be measured.
        trusted: Whether the attack was good enough for the value to mean something.
        why: The reason, one sentence without a full stop.
    """

    value: float
    low: float
    high: float
    trusted: bool
    why: str


def success_rate(successes: Successes, confidence: float) -> SuccessRate:
    """Return Wilson's estimate of the rate of success.

    Raises:
        ValueError: A confidence outside (0, 1).

    Example:
        >>> rate = success_rate(Successes(0, 20), 0.95)
        >>> round(rate.value, 3), round(rate.low, 3), round(rate.high, 3)
        (0.081, 0.0, 0.161)
    """
    check_confidence(confidence)
    if successes.of == 0:
        return SuccessRate(nan, 0.0, 1.0)
    middle, half = _wilson(successes, confidence)
    return SuccessRate(middle, max(0.0, middle - half), min(1.0, middle + half))


def residual_risk(attack: Successes, control: Successes, baseline: Successes, confidence: float) -> Risk:
    """Return what being a training patient adds to the success of an attack.

    Args:
        attack: Against training patients.
        control: The same attack against holdout patients.
        baseline: Guessing without the substitute cohort, against training patients.
        confidence: Of the interval, in (0, 1); 1 - confidence is the level of the two checks.

    Raises:
        ValueError: A confidence outside (0, 1).

    Example:
        >>> risk = residual_risk(Successes(40, 50), Successes(10, 50), Successes(5, 50), 0.95)
        >>> round(risk.value, 2), round(risk.low, 2), round(risk.high, 2), risk.trusted
        (0.72, 0.57, 0.86, True)
        >>> residual_risk(Successes(5, 50), Successes(5, 50), Successes(6, 50), 0.95).why
        'the attack (5 of 50) was not seen to beat guessing (6 of 50)'
    """
    check_confidence(confidence)
    for name, tried in (("attack", attack), ("control", control)):
        if tried.of == 0:
            return Risk(nan, 0.0, 1.0, trusted=False, why=f"the {name} was never tried")
    if control.found == control.of:
        return Risk(nan, 0.0, 1.0, trusted=False, why="the control always succeeded, which leaves nothing to measure")

    (rate, error), (control_rate, control_error) = _wilson(attack, confidence), _wilson(control, confidence)
    left = 1 - control_rate
    risk = (rate - control_rate) / left
    spread = hypot(error / left, control_error * (1 - rate) / left**2)
    trusted, why = _trust(attack, control, baseline, confidence)
    return Risk(_clip(risk), _clip(risk - spread), _clip(risk + spread), trusted, why)


def _wilson(successes: Successes, confidence: float) -> tuple[float, float]:
    """Return the middle and the half-width of Wilson's interval."""
    z = float(stats.norm.ppf((1 + confidence) / 2))
    found, of = successes.found, successes.of
    half = z / (of + z**2) * sqrt(found * (of - found) / of + z**2 / 4)
    return (found + z**2 / 2) / (of + z**2), half


def _trust(attack: Successes, control: Successes, baseline: Successes, confidence: float) -> tuple[bool, str]:
    tried = f"the attack ({attack.found} of {attack.of})"
    if baseline.of == 0:
        return False, f"{tried} was not compared with guessing"
    if _larger(control, attack) <= 1 - confidence:
        return False, f"the control ({control.found} of {control.of}) did better than {tried}, so the two groups differ"
    guessed = f"guessing ({baseline.found} of {baseline.of})"
    if _larger(attack, baseline) > 1 - confidence:
        return False, f"{tried} was not seen to beat {guessed}"
    return True, f"{tried} beat {guessed}"


def _larger(one: Successes, other: Successes) -> float:
    """Return Fisher's exact p-value of `one` succeeding more often than `other`."""
    table = np.array([[one.found, one.of - one.found], [other.found, other.of - other.found]])
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
