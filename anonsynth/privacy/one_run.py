"""How much a mechanism leaks at least, measured in one run, beside what is claimed that it leaks at most.

m *canaries* are made up, and each is put among the patients by a fair coin. From what the run releases somebody guesses
for some of them whether they were in. If the mechanism is (ε, δ)-differentially private, no guesser, however clever, is
right much more often than randomised response of that ε would be: each guess with probability e^ε/(1 + e^ε),
independently, up to a slack of δ (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846). So many right guesses are
evidence against every small ε, and the largest ε that they speak against is a lower bound.

    P(right ≥ v) ≤ P(B ≥ v) + 2·m·δ · max_{1≤i≤v} P(v > B ≥ v − i)/i,    B ~ Binomial(r, e^ε/(1 + e^ε))

for r guesses: the numerical form of their theorem 5.2 in their appendix D, with the binomial tail summed exactly. How
many are guessed is settled before looking. The converse does not hold: a small bound says that this guesser was not
good, with these canaries, and not that ε is small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from anonsynth.errors import ContradictionError, UsageError

__all__ = ["Guesses", "OneRun", "best_bound", "check_claim", "epsilon_at_least", "guess", "p_value"]

CONFIDENCE = 0.95
PRECISION = 1e-6
MOST = 60.0
"""No number of canaries that fits into memory speaks against an ε above it."""


@dataclass(frozen=True, slots=True)
class Guesses:
    """What was guessed about canaries.

    Attributes:
        canaries: m, each in with probability ½; those about whom nothing was guessed count as well.
        guesses: r, for how many it was guessed whether they were in.
        correct: v, how many guesses were right.
    """

    canaries: int
    guesses: int
    correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.guesses <= self.canaries or self.canaries < 1:
            msg = f"{self.correct} right of {self.guesses} guesses about {self.canaries} canaries cannot be"
            raise UsageError(msg)


@dataclass(frozen=True, slots=True)
class OneRun:
    """What one run says about a claimed ε, to be printed beside it.

    Attributes:
        guesses: What was guessed.
        claimed: The ε that is claimed at δ.
        delta: δ.
        bound: ε is at least this, with `confidence`.
        best: What the bound would be if every canary had been guessed right: what this run could have shown.
        confidence: Of the bound.
    """

    guesses: Guesses
    claimed: float
    delta: float
    bound: float
    best: float
    confidence: float = CONFIDENCE

    def sentence(self) -> str:
        """Say it in one sentence with a full stop."""
        return (
            f"ε is at least {self.bound:.2f} and is claimed to be at most {self.claimed:.2f} at δ = {self.delta:.2g}: "
            f"{self.guesses.correct} of {self.guesses.guesses} guesses about {self.guesses.canaries} canaries were "
            f"right; had all of them been, this would read {self.best:.2f} ({self.confidence:.0%} confidence)."
        )


def guess(scores: npt.NDArray[np.floating], included: npt.NDArray[np.bool_], guesses: int) -> Guesses:
    """Guess that the highest scores were in and the lowest were not, half of the guesses each.

    Args:
        scores: (m,) the higher, the more a canary seems to have been in.
        included: (m,) whether it was; the coins were fair and independent, and fell before the run.
        guesses: How many are guessed, settled before looking at the scores.

    Raises:
        UsageError: If there are fewer canaries than guesses.
    """
    if not 0 <= guesses <= len(scores):
        msg = f"{guesses} guesses about {len(scores)} canaries cannot be made"
        raise UsageError(msg)
    order = np.argsort(scores, kind="stable")
    low = guesses // 2
    high = guesses - low
    right = int((~included[order[:low]]).sum()) + int(included[order[len(order) - high :]].sum())
    return Guesses(len(scores), guesses, right)


def p_value(seen: Guesses, epsilon: float, delta: float) -> float:
    """Return how probable so many right guesses are at most, if the mechanism is (ε, δ)-differentially private."""
    mass = _mass(seen.guesses, epsilon)
    v = seen.correct
    tail = math.fsum(mass[v:])
    slack = 0.0
    if delta > 0 and v > 0:
        below = np.cumsum(mass[:v][::-1])  # P(v > B ≥ v − i), i = 1 … v
        slack = 2 * seen.canaries * delta * float((below / np.arange(1, v + 1)).max())
    return min(1.0, tail + slack)


def epsilon_at_least(seen: Guesses, delta: float, confidence: float = CONFIDENCE) -> float:
    """Return the largest ε that the guesses speak against; with `confidence` the true one is not below it.

    0 where they speak against nothing.

    Raises:
        UsageError: If δ is not in [0, 1) or the confidence not in (0, 1).
    """
    if not 0 <= delta < 1 or not 0 < confidence < 1:
        msg = f"δ = {delta:g} has to be in [0, 1) and the confidence {confidence:g} between 0 and 1"
        raise UsageError(msg)
    level = 1 - confidence
    if p_value(seen, 0.0, delta) >= level:
        return 0.0
    low, high = 0.0, 1.0
    while high < MOST and p_value(seen, high, delta) < level:
        low, high = high, 2 * high
    while high - low > PRECISION:
        middle = (low + high) / 2
        if p_value(seen, middle, delta) < level:
            low = middle
        else:
            high = middle
    return low  # the end that was seen to be spoken against


@cache
def best_bound(canaries: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """Return the bound that so many canaries give if all of them are guessed right: the most they could ever show."""
    return epsilon_at_least(Guesses(canaries, canaries, canaries), delta, confidence)


def check_claim(seen: Guesses, claimed: float, delta: float, confidence: float = CONFIDENCE) -> OneRun:
    """Compare the bound with the claim.

    Raises:
        ContradictionError: If the bound is above the claim. A mechanism that is right is accused with a probability of
            1 − confidence at most.
    """
    bound = epsilon_at_least(seen, delta, confidence)
    result = OneRun(seen, claimed, delta, bound, best_bound(seen.canaries, delta, confidence), confidence)
    if bound > claimed:
        msg = (
            f"the guarantee does not hold: {seen.correct} of {seen.guesses} canaries were told rightly, so ε is at "
            f"least {bound:.2f} and not {claimed:.2f} at δ = {delta:.2g} ({confidence:.0%} confidence); "
            "release nothing of this run"
        )
        raise ContradictionError(msg)
    return result


def _mass(guesses: int, epsilon: float) -> npt.NDArray[np.float64]:
    """Return (guesses + 1,) binomial probabilities of so many right answers of randomised response."""
    k = np.arange(guesses + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    log_right, log_wrong = -math.log1p(math.exp(-epsilon)), -epsilon - math.log1p(math.exp(-epsilon))
    mass: npt.NDArray[np.float64] = np.exp(log_choose + k * log_right + k[::-1] * log_wrong)
    return mass
