"""The ladder: ways to make a model, from none of the patients to all of them, as strategies of one interface.

| rung | reads of patients |
|---|---|
| 0 simulator | nothing |
| 1 statistics | four sums with noise |
| 2 selection | + votes for simulated candidates |
| 3 adapter | + DP-SGD on a small part of a generator |
| 4 full | + DP-SGD on a discriminator, from which the generator learns |

A rung is registered with one line in `RUNGS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anonsynth.errors import UsageError
from anonsynth.synthesis.additions import Adapter, FullGAN, Selection
from anonsynth.synthesis.private_plan import Facts, PrivatePlan, make_plan
from anonsynth.synthesis.private_train import Addition, Request, train_with_guarantee
from anonsynth.synthesis.selection import CANDIDATES
from anonsynth.synthesis.settings import GuaranteeSettings, TrainSettings

__all__ = ["RUNGS", "Outlook", "Rung", "open_rung", "outlooks"]


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

    def outlook(self, facts: Facts, plan: PrivatePlan, epsilon: float) -> Outlook:
        """Return what to expect of a budget; `plan` is what rung 1 would do with all of it."""
        ...

    def train(self, request: Request) -> Path:
        """Write a model."""
        ...


@dataclass(frozen=True, slots=True)
class _Statistical:
    """Rungs 0 and 1: the same model, from public centres or from what is released around them."""

    number: int
    name: str

    def outlook(self, facts: Facts, plan: PrivatePlan, epsilon: float) -> Outlook:  # noqa: ARG002 - the interface
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
class _Further:
    """Rungs 2 to 4: rung 1 with part of the budget, and an addition with the rest."""

    number: int
    name: str
    addition: Addition
    release: str
    says: str

    def outlook(self, facts: Facts, plan: PrivatePlan, epsilon: float) -> Outlook:
        extra = self.addition.takes(facts, TrainSettings().width, GuaranteeSettings().private_steps)
        mine = make_plan(facts, epsilon, plan.delta, extra)
        ratio = min(mine.signal_to_noise[self.release], *mine.signal_to_noise.values())
        return Outlook(self.number, self.name, built=True, worth=mine.worth, signal_to_noise=ratio, says=self.says)

    def train(self, request: Request) -> Path:
        return train_with_guarantee(request, self.addition)


RUNGS: dict[int, Rung] = {
    rung.number: rung
    for rung in (
        _Statistical(0, "simulator"),
        _Statistical(1, "statistics"),
        _Further(2, "selection", Selection(), "votes", f"rung 1, and votes for one of {len(CANDIDATES)} candidates"),
        _Further(3, "adapter", Adapter(), "training", "rung 1 with half of it, and DP-SGD on a few hundred weights"),
        _Further(4, "full", FullGAN(), "training", "rung 1 with half of it, and DP-SGD on a discriminator"),
    )
}
"""Every rung by its number."""


def open_rung(number: int) -> Rung:
    """Return a rung.

    Raises:
        UsageError: If there is none of that number.
    """
    if number not in RUNGS:
        known = ", ".join(f"{rung.number} ({rung.name})" for rung in RUNGS.values())
        msg = f"there is no rung {number}; choose {known}"
        raise UsageError(msg)
    return RUNGS[number]


def outlooks(facts: Facts, epsilon: float, delta: float | None = None) -> tuple[PrivatePlan, tuple[Outlook, ...]]:
    """Return the plan of rung 1 and what every rung would give."""
    plan = make_plan(facts, epsilon, delta)
    return plan, tuple(rung.outlook(facts, plan, epsilon) for _, rung in sorted(RUNGS.items()))
