"""What the tests of the ledger run in processes of their own, to race and to kill them; imports as little as it can."""

from __future__ import annotations

import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

from anonsynth.errors import BudgetError
from anonsynth.privacy.accountant import epsilon_of
from anonsynth.privacy.events import Event, Gaussian, NoGuarantee
from anonsynth.privacy.ledger import Ledger
from anonsynth.privacy.spending import Budget, Spend, StepKind

SCANS = "ab" * 32
FREE = Budget("internal")
NOISY = Gaussian(noise_multiplier=4.0)


def spend(spend_id: str, *events: Event, step: StepKind = StepKind.STATISTICS, cohort: str = SCANS) -> Spend:
    return Spend(id=spend_id, step=step, what="a test", events=events or (NOISY,), cohort=cohort, patients=100)


def compete(path: Path, name: str, epsilon: float, start: Barrier) -> None:
    """Try to spend three times as soon as everybody is there."""
    epsilon_of([NOISY], 1e-3)  # imports the accountant before the race
    start.wait()
    for number in range(3):
        try:
            Ledger(path).spend(spend(f"{name} {number}"), Budget("strict", epsilon=epsilon))
        except BudgetError:
            break


def write_for_ever(path: Path) -> None:
    """Spend step after step and say after each that it may run now; a process that starts anew says the same ids."""
    number = 0
    while True:
        Ledger(path).spend(spend(f"step {number}", NoGuarantee()), FREE)
        sys.stdout.write("ran\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    write_for_ever(Path(sys.argv[1]))
