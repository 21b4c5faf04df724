"""The proof that a step was declared, without which nothing draws noise on patients' data.

Whoever runs a mechanism asks for a receipt, and a receipt is believed only as far as the ledger's file says the same.
So there is no way to run a mechanism undeclared by forgetting a line, and none by making up a receipt either.
"""

from __future__ import annotations

from dataclasses import dataclass

from anonsynth.errors import InternalError
from anonsynth.privacy.events import Event
from anonsynth.privacy.ledger import Ledger
from anonsynth.privacy.spending import Budget, Entry, Spend

__all__ = ["Receipt", "spend_for"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A spend that stands in a ledger.

    Attributes:
        ledger: Where it stands.
        entry: What stands there.
    """

    ledger: Ledger
    entry: Entry

    def confirm(self, run: str, *events: Event, patients: int) -> None:
        """Read the ledger again and see that this very draw of noise is declared in it, with its whole cost.

        Args:
            run: The name of the draw of noise; the spend's id begins with it.
            events: What is going to be done.
            patients: How many patients are read at most.

        Raises:
            InternalError: If the ledger does not say so.
            InputError: If the ledger cannot be read or is broken.
        """
        stands = self.ledger.read().find(self.entry.id)
        if stands != self.entry:
            msg = "a private step was not declared: its receipt is not in the cohort's ledger"
            raise InternalError(msg)
        if not self.entry.id.startswith(f"{run} ") or self.entry.events != events or self.entry.patients < patients:
            msg = "a private step was declared as something else: its noise, its cost or its patients are not these"
            raise InternalError(msg)


def spend_for(ledger: Ledger, spend: Spend, budget: Budget) -> Receipt:
    """Write a spend into the ledger, unless it is there already, and return its receipt.

    Raises:
        As `Ledger.spend`.
    """
    return Receipt(ledger, ledger.spend(spend, budget))
