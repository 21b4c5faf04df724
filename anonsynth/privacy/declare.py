"""How a step says, before it runs, what it will cost the patients: one line in whoever reads private data.

A step that cannot declare does not run. So a cohort whose folder is read-only can be inspected, audited and generated
beside, but not trained on: training writes class maps into it anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort
from anonsynth.errors import InputError
from anonsynth.files import sha256_file
from anonsynth.policies.model import Policy
from anonsynth.privacy.events import Event, NoGuarantee, is_protected
from anonsynth.privacy.ledger import Ledger
from anonsynth.privacy.receipt import Receipt, spend_for
from anonsynth.privacy.spending import Budget, Spend, StepKind, check_budget

__all__ = ["LEDGER_FILE", "Step", "declare", "fingerprint", "ledger_at", "ledger_of", "standing"]

LEDGER_FILE = "ledger.sqlite"


def ledger_of(cohort: Path) -> Ledger:
    """Return the ledger of a cohort's folder, whether or not it was begun."""
    return Ledger(cohort / LEDGER_FILE)


def ledger_at(place: Path) -> tuple[Ledger, str | None]:
    """Return the ledger of a cohort's folder, or the one in a file; and the cohort's fingerprint if it is a folder.

    Raises:
        InputError: If there is neither.
    """
    if place.is_file():
        return Ledger(place), None
    if not place.is_dir():
        raise InputError("there is no such cohort or ledger", remedy="name a cohort's folder or its ledger.sqlite")
    return ledger_of(place), fingerprint(place)


def fingerprint(cohort: Path) -> str:
    """Return what tells cohorts apart: the SHA-256 of their table of scans, which holds a hash of every scan.

    Raises:
        InputError: If the folder holds no cohort.
    """
    table = cohort / "scans.tsv"
    if not table.is_file():
        raise InputError("the folder holds no cohort", remedy="name one that `anonsynth ingest` wrote")
    return sha256_file(table)


@dataclass(frozen=True, slots=True)
class Step:
    """A step that reads patients and writes something that is meant to leave.

    Attributes:
        name: In small letters; no other step of the same run has it.
        kind: What kind of step it is.
        what: What it reads, in words that name no patient and no place.
        events: What it does to the patients' data; by default nothing protects them.
        draw: Names its draw of noise, where that is not the run's.
    """

    name: str
    kind: StepKind
    what: str
    events: tuple[Event, ...] = (NoGuarantee(),)
    draw: str = ""


def declare(cohort: Cohort, policy: Policy, run: str, *steps: Step, patients: int | None = None) -> tuple[Receipt, ...]:
    """Write steps into the cohort's ledger; call it before the first of them reads anything.

    If the policy's budget does not hold all of them together, none of them is written.

    Called again for the same run it changes nothing, so that a resumed run spends once.

    Args:
        cohort: Whose training patients are read.
        policy: Under which the steps run.
        run: Names the run in small letters and digits: the hash of its settings. Where a mechanism draws noise that the
            settings do not fix, it has to name that draw too.
        steps: What is going to be done.
        patients: A public figure for the number of training patients, from which δ follows; counted if left out. The
            count is private, so a guarantee rests on a figure.

    Returns:
        A receipt for each step. What draws noise asks for its receipt, so that it cannot run undeclared.

    Raises:
        BudgetError: If the policy's budget does not hold it.
        VerdictError: If the policy asks for a guarantee and a step carries none.
        InputError: If the ledger cannot be written or is broken.
    """
    ledger, budget = ledger_of(cohort.folder), Budget.of(policy)
    scans, counted = fingerprint(cohort.folder), patients or len(cohort.patients(Split.TRAIN))
    spends = []
    for step in steps:
        # The policy is part of the name: the same training under another policy is that policy's to answer for.
        named = f"{step.draw or run} {policy.id} {step.name}"
        spends.append(
            Spend(id=named, step=step.kind, what=step.what, events=step.events, cohort=scans, patients=counted)
        )
    if len(spends) > 1:
        _check_together(ledger, spends, budget)
    return tuple(spend_for(ledger, spend, budget) for spend in spends)


def _check_together(ledger: Ledger, spends: Sequence[Spend], budget: Budget) -> None:
    """Refuse steps of which the first ones would be spent in vain, as the budget does not hold the last ones."""
    history = ledger.read()
    new = [spend for spend in spends if history.find(spend.id) is None and is_protected(spend.events)]
    if new:
        events = tuple(event for spend in new for event in spend.events)
        check_budget(history, new[-1].model_copy(update={"events": events}), budget)


def standing(cohort: Cohort) -> str:
    """Say in one line how the guarantee of a cohort stands, composed over everything in its ledger."""
    return ledger_of(cohort.folder).read().statement()
