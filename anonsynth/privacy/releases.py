"""A run's releases: declared together, noise drawn once, each result kept, so that a killed run resumes for nothing.

    COHORT/releases/<run>-<policy>.seed              the secret of the noise; never leaves
    COHORT/releases/<draw>-<query>.json              what was released

The order is what counts: first the seed is on the disk, then the ledger holds the whole spend under the seed's name,
then patients are read, then the result is kept. Killed at any moment the run goes on with the same noise, or with the
result itself; a run whose seed was lost has another name and is paid for anew.

Zone: spending; the files are private.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anonsynth.cohort.store import Cohort
from anonsynth.errors import InternalError
from anonsynth.files import read_json, write_json
from anonsynth.policies.model import Policy
from anonsynth.privacy.declare import Step, declare
from anonsynth.privacy.mechanisms import NoisySum, Query, noisy_sum
from anonsynth.privacy.randomness import PrivateRandomness, keep_secret
from anonsynth.privacy.receipt import Receipt
from anonsynth.privacy.spending import StepKind

__all__ = ["RELEASES", "Releases", "begin_releases", "open_noise"]

RELEASES = "releases"


@dataclass(frozen=True, slots=True)
class Releases:
    """Releases that the ledger holds already.

    Attributes:
        folder: Where results are kept; private.
        randomness: Of their noise.
        queries: All that may be released.
        receipts: Of the steps that were declared with them.
    """

    folder: Path
    randomness: PrivateRandomness
    queries: tuple[Query, ...]
    receipts: tuple[Receipt, ...] = ()

    def take(self, name: str, collect: Callable[[], Mapping[str, npt.NDArray[np.float64]]]) -> NoisySum:
        """Return the release of a query; patients are read only if it was not kept yet.

        Args:
            name: Of the query.
            collect: Reads the patients: one vector each.

        Raises:
            InternalError: If no such query was declared.
        """
        query = next((query for query in self.queries if query.name == name), None)
        if query is None:
            msg = f"the release '{name}' was not declared"
            raise InternalError(msg)
        path = self.folder / f"{self.randomness.name}-{name.replace(' ', '-')}.json"
        if path.exists():
            kept = read_json(path)
            return NoisySum(np.array(kept.pop("total"), np.float64), **kept)
        released = noisy_sum(query, collect(), self.randomness)
        write_json(path, asdict(released) | {"total": released.total.tolist()})
        return released


def open_noise(cohort: Cohort, policy: Policy, run: str) -> PrivateRandomness:
    """Return the noise of a run's releases; its secret is on the disk before this returns.

    Raises:
        InputError: If the file of the secret is broken.
    """
    return PrivateRandomness(keep_secret(cohort.folder / RELEASES / f"{run}-{policy.id}.seed"), run)


def begin_releases(
    cohort: Cohort,
    policy: Policy,
    run: str,
    queries: tuple[Query, ...],
    what: str,
    patients: int,
    *further: Step,
) -> Releases:
    """Pay for all queries at once, and for further steps that will follow; return what releases them.

    Args:
        cohort: Whose training patients are read.
        policy: Under which.
        run: Names the settings of the run, in small letters and digits; they have to include the cohort's scans.
        queries: All that will be released: settled before the first is.
        what: What is read, in words for the ledger.
        patients: The public figure for the number of patients, from which δ follows.
        further: What is done after them with other noise, such as private training.

    Raises:
        BudgetError: If the policy's budget does not hold it; then nothing is spent.
        InputError: If the ledger cannot be written or is broken.
    """
    noise = open_noise(cohort, policy, run)
    step = Step("statistics", StepKind.STATISTICS, what, tuple(query.event for query in queries))
    receipts = declare(cohort, policy, f"{run} {noise.name}", step, *further, patients=patients)
    return Releases(cohort.folder / RELEASES, noise, queries, receipts[1:])
