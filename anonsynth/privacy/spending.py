"""What a ledger holds, as values: spends, entries, budgets, and how the guarantee stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from anonsynth.errors import BudgetError, VerdictError
from anonsynth.policies.model import Policy
from anonsynth.privacy.accountant import epsilon_of, settle_delta
from anonsynth.privacy.events import Event, is_protected

__all__ = ["Budget", "Entry", "History", "Spend", "StepKind", "check_budget", "refuse_unprotected"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Narrow on purpose: no path, no mail address and no DICOM name (Doe^Jane) can be written with these.
SpendId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9 .:-]*$", max_length=200)]
Words = Annotated[str, Field(pattern=r"^[A-Za-z0-9 ,;:()→-]+$", max_length=200)]
RECORDED = Field(min_length=1)


class StepKind(StrEnum):
    """What kind of step reads patients and writes something that is meant to leave."""

    PRIOR = "label prior"
    STATISTICS = "statistics"
    SELECTION = "selection"
    TRAINING = "training"
    AUDIT = "audit"
    RELEASE = "release"


class Spend(BaseModel):
    """One step, as it is declared before it runs.

    Attributes:
        id: Names one run of one step: the same after a kill, another one wherever noise would be drawn anew.
        step: Its kind.
        what: What is read, in words that name no patient and no place.
        events: What is done to the patients' data.
        cohort: SHA-256 of the cohort's `scans.tsv`.
        patients: Patients who are read; δ follows from it unless the policy sets it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: SpendId
    step: StepKind
    what: Words
    events: tuple[Event, ...] = RECORDED
    cohort: Sha256
    patients: int = Field(ge=1)


class Entry(Spend):
    """A spend that stands in the ledger.

    Attributes:
        policy: The policy under which it was spent.
        anonsynth: The version that wrote it.
        time: When, UTC.
    """

    policy: str
    anonsynth: str
    time: str

    def is_of(self, spend: Spend, budget: Budget) -> bool:
        """Tell whether this is the same step on the same cohort under the same policy; wording may have changed since.

        The cohort counts: the same noise on other patients' data, or on some of them, is another release.
        """
        mine = (self.step, self.events, self.cohort, self.policy)
        return mine == (spend.step, spend.events, spend.cohort, budget.policy)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a policy allows to be spent on one cohort.

    Attributes:
        policy: The policy's identifier.
        guarantee: Whether every step has to carry a mechanism.
        epsilon: The most that all steps with a mechanism may cost together; None is no limit.
        delta: The δ to account with; None is 1/(10·patients).
    """

    policy: str
    guarantee: bool = False
    epsilon: float | None = None
    delta: float | None = None

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """Return what `policy` allows."""
        rules = policy.synthesis
        return cls(policy.id, rules.guarantee, rules.epsilon, rules.delta)


@dataclass(frozen=True, slots=True)
class History:
    """Everything that was ever spent on a cohort.

    Attributes:
        cohort: Fingerprint of the cohort for which the ledger was begun, or "" if it was not.
        entries: All spends, oldest first.
        head: Hash of the last entry, for an auditor to note; "" if there is none.
    """

    cohort: str
    entries: tuple[Entry, ...]
    head: str

    @property
    def unprotected(self) -> int:
        """How many steps carry no mechanism."""
        return sum(not is_protected(entry.events) for entry in self.entries)

    @property
    def protected_events(self) -> tuple[Event, ...]:
        """The events of all steps that carry a mechanism, over all policies."""
        return tuple(event for entry in self.entries if is_protected(entry.events) for event in entry.events)

    @property
    def fingerprint(self) -> str:
        """The cohort that was spent on last."""
        return self.entries[-1].cohort if self.entries else self.cohort

    def find(self, spend_id: str) -> Entry | None:
        """Return the entry of that id."""
        return next((entry for entry in self.entries if entry.id == spend_id), None)

    def delta(self, asked: float | None = None) -> float:
        """Return the δ to account with; by default that of the most patients of any entry."""
        return settle_delta(asked, max(entry.patients for entry in self.entries))

    def as_json(self, delta: float | None = None) -> dict[str, Any]:
        """Return everything as JSON; ε is None where it is ∞, or where no step has a mechanism."""
        used = self.delta(delta) if self.entries else None
        protected = epsilon_of(self.protected_events, used) if used is not None and self.protected_events else None
        return {
            "cohort": self.fingerprint,
            "head": self.head,
            "statement": self.statement(delta),
            "delta": used,
            "epsilon": protected if not self.unprotected and protected != math.inf else None,
            "epsilon_of_protected_steps": protected if protected != math.inf else None,
            "unprotected_steps": self.unprotected,
            "entries": [entry.model_dump(mode="json") for entry in self.entries],
        }

    def statement(self, delta: float | None = None) -> str:
        """Say in one line, without a full stop, how the guarantee stands over all entries."""
        if not self.entries:
            return "nothing has been spent"
        bare, rest = self.unprotected, len(self.entries) - self.unprotected
        cost = ""
        if rest:
            used = self.delta(delta)
            cost = f"ε = {_upwards(epsilon_of(self.protected_events, used))} at δ = {used:.2g}"
        if bare:
            return f"no guarantee: {_steps(bare)} without a mechanism" + (
                f", besides {_steps(rest)} with one that cost {cost}" if rest else ""
            )
        return f"{cost} per patient (one patient more or less), composed over {_steps(rest)}"


def refuse_unprotected(budget: Budget, what: str) -> None:
    """Refuse a step without a mechanism under a policy that asks for a guarantee.

    Raises:
        VerdictError: If the policy does.
    """
    if budget.guarantee:
        msg = (
            f"policy '{budget.policy}' asks for a guarantee and {what} has no mechanism that could give one; "
            "choose another policy"
        )
        raise VerdictError(msg)


def check_budget(history: History, spend: Spend, budget: Budget) -> None:
    """Refuse a spend that the policy's budget does not hold, composed with all that was spent before by any policy.

    Raises:
        VerdictError: If the policy asks for a guarantee and the step carries none.
        BudgetError: If the budget is exhausted.
        UsageError: If the policy's δ is not below 1/patients.
    """
    if not is_protected(spend.events):
        refuse_unprotected(budget, f"the {spend.step.value} step")
        return
    if budget.guarantee and history.unprotected:
        msg = (
            f"policy '{budget.policy}' asks for a guarantee, and this cohort's ledger already holds "
            f"{_steps(history.unprotected)} without a mechanism, which no later step can make good"
        )
        raise BudgetError(msg)
    delta = settle_delta(budget.delta, spend.patients)
    if budget.epsilon is None:
        return
    after = epsilon_of((*history.protected_events, *spend.events), delta)
    if after > budget.epsilon:
        before = epsilon_of(history.protected_events, delta)
        msg = (
            f"the privacy budget does not hold this {spend.step.value} step: policy '{budget.policy}' allows ε = "
            f"{budget.epsilon:g} at δ = {delta:.2g}, {_upwards(before)} of it is spent and {_upwards(after)} would be; "
            "spend less in the step, or leave it out"
        )
        raise BudgetError(msg)


def _steps(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"


def _upwards(epsilon: float) -> str:
    """Write ε with three decimals, rounded up: what is printed is never below what was spent."""
    return "∞" if math.isinf(epsilon) else f"{math.ceil(epsilon * 1000) / 1000:g}"
