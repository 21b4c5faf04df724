"""The ladder: ways to make a model, from none of the patients to all of them, as strategies of one interface.

| rung | reads of patients |
|---|---|
| 0 simulator | nothing |
| 1 statistics | four sums with noise |
| 2 selection | + votes for simulated candidates |
| 3 adapter | + DP-SGD on a small part of a generator |
| 4 full | + DP-SGD on all of it |

A rung that is built is registered with one line in `RUNGS`; of the others the plan says what they would give.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from anonsynth.errors import UsageError
from anonsynth.privacy.accountant import find_noise
from anonsynth.privacy.events import Gaussian
from anonsynth.synthesis.private_plan import Facts, PrivatePlan, make_plan
from anonsynth.synthesis.private_train import Request, train_with_guarantee

__all__ = ["RUNGS", "Outlook", "Rung", "open_rung", "outlooks"]

CANDIDATES = 50
"""Among so many simulated candidates patients would choose."""
ADAPTER_WEIGHTS, ALL_WEIGHTS = 20_000, 2_000_000


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a rung would give for a budget, from public facts.

    Attributes:
        rung: Its number.
        name: In a word.
        built: Whether this version has it.
        worth: Whether signal exceeds noise.
        signal_to_noise: The least of its releases; None where nothing is released.
        says: In a sentence.
    """

    rung: int
    name: str
    built: bool
    worth: bool
    signal_to_noise: float | None
    says: str


class Rung(Protocol):
    """One way to make a model."""

    @property
    def number(self) -> int:
        """Its place on the ladder."""
        ...

    @property
    def name(self) -> str:
        """Its name, in a word."""
        ...

    def outlook(self, facts: Facts, plan: PrivatePlan, noise: float) -> Outlook:
        """Return what to expect; `noise` is the multiplier at which one release would take the whole budget."""
        ...

    def train(self, request: Request) -> Path:
        """Write a model."""
        ...


@dataclass(frozen=True, slots=True)
class _Statistical:
    """Rungs 0 and 1: the same model, from public centres or from what is released around them."""

    number: int
    name: str

    def outlook(self, facts: Facts, plan: PrivatePlan, noise: float) -> Outlook:  # noqa: ARG002 - the interface
        if self.number == 0:
            return Outlook(0, self.name, built=True, worth=True, signal_to_noise=None, says="reads no patient")
        least = min(plan.signal_to_noise, key=lambda name: plan.signal_to_noise[name])
        says = f"{len(plan.waves)} coefficients of the label prior, and statistics; weakest: {least}"
        return Outlook(
            1, self.name, built=True, worth=plan.worth, signal_to_noise=plan.signal_to_noise[least], says=says
        )

    def train(self, request: Request) -> Path:
        return train_with_guarantee(request)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A rung that this version lacks, with a formula for what it would give if it had the whole budget."""

    number: int
    name: str
    ratio: Callable[[int, float], float]
    says: str

    def outlook(self, facts: Facts, plan: PrivatePlan, noise: float) -> Outlook:  # noqa: ARG002 - the interface
        ratio = self.ratio(facts.patients, noise)
        return Outlook(self.number, self.name, built=False, worth=ratio >= 1, signal_to_noise=ratio, says=self.says)

    def train(self, request: Request) -> Path:  # noqa: ARG002 - the interface
        msg = f"rung {self.number} ({self.name}) is not in this version; choose --rung 0 or 1"
        raise UsageError(msg)


def _gradients(patients: int, noise: float, weights: int) -> float:
    """Return the best signal to noise of DP-SGD, all steps together and nobody sampled out.

    Gradients of n patients, each clipped to C and all of one direction, against noise of σC on each weight.
    """
    return patients / (noise * math.sqrt(weights))


def _votes(patients: int, noise: float) -> float:
    """Return patients a candidate over the noise on its count: a patient votes once."""
    return patients / (noise * CANDIDATES)


RUNGS: dict[int, Rung] = {
    rung.number: rung
    for rung in (
        _Statistical(0, "simulator"),
        _Statistical(1, "statistics"),
        _Planned(2, "selection", _votes, f"votes for one of {CANDIDATES} candidates"),
        _Planned(3, "adapter", partial(_gradients, weights=ADAPTER_WEIGHTS), f"DP-SGD on {ADAPTER_WEIGHTS} weights"),
        _Planned(4, "full", partial(_gradients, weights=ALL_WEIGHTS), f"DP-SGD on {ALL_WEIGHTS} weights"),
    )
}
"""Every rung by its number."""


def open_rung(number: int) -> Rung:
    """Return a rung.

    Raises:
        UsageError: If there is none of that number.
    """
    if number not in RUNGS:
        msg = f"there is no rung {number}; choose 0 (simulator) or 1 (statistics)"
        raise UsageError(msg)
    return RUNGS[number]


def outlooks(facts: Facts, epsilon: float, delta: float | None = None) -> tuple[PrivatePlan, tuple[Outlook, ...]]:
    """Return the plan of rung 1 and what every rung would give."""
    plan = make_plan(facts, epsilon, delta)
    noise = find_noise(lambda multiplier: Gaussian(noise_multiplier=multiplier), epsilon, plan.delta)
    return plan, tuple(rung.outlook(facts, plan, noise) for _, rung in sorted(RUNGS.items()))
