"""Generated scans beside the holdout: what being generated looks like where nobody can have been copied.

Training patients are looked up there too. They are real and no relatives of the holdout: what they show there and
not among each other is due to the holdout's number alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anonsynth.audits.embedding import seen_alike
from anonsynth.audits.index import Index, build_index
from anonsynth.audits.nearest import Matches, Query, compare
from anonsynth.cohort.model import Split
from anonsynth.progress import Progress
from anonsynth.seeds import stream

__all__ = ["NOBODY", "Beside", "beside_holdout"]

FEWEST_PATIENTS = 4
MOST = 60
"""Generated scans that are looked up; the tail of so many is known well enough."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What scans resemble among the holdout patients.

    Attributes:
        generated: Some generated scans.
        training: Some training patients, one scan of each.
    """

    generated: tuple[Matches, ...]
    training: tuple[Matches, ...]


NOBODY = Beside((), ())
"""Where there is no holdout to speak of."""


def beside_holdout(
    generated: Sequence[Query], training: Sequence[Query], index: Index, seed: int, progress: Progress
) -> Beside:
    """Look some generated scans and some training patients up among the holdout patients.

    Args:
        generated: All generated scans.
        training: One scan of each of some training patients, the same as are looked up among the others.
        index: The training scans; the holdout is laid on their mean.
        seed: Says which are drawn.
        progress: Shows how far it is.

    Returns:
        What at most 60 generated scans and those training patients resemble; nothing where the holdout has fewer than
        four patients. Without this null, generated scans that were merely smooth were taken for copies in most draws
        with six holdout patients.
    """
    records = index.cohort.of(Split.HOLDOUT)
    if len({record.patient for record in records}) < FEWEST_PATIENTS:
        return NOBODY
    hidden = seen_alike(
        build_index(index.cohort, records, index.grid.views, index.folder / "holdout", progress, like=index), index
    )
    chosen = np.sort(stream(seed, "audit", "crossed").permutation(len(generated))[:MOST])
    return Beside(
        compare([generated[i] for i in chosen], hidden, progress, "null: generated scans beside the holdout"),
        compare(training, hidden, progress, "null: training patients beside the holdout"),
    )
