"""Generated scans beside the holdout: what being generated looks like where nobody can have been copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anonsynth.audits.embedding import seen_alike
from anonsynth.audits.index import Index, build_index
from anonsynth.audits.nearest import Matches, Query, compare
from anonsynth.cohort.model import Split
from anonsynth.progress import Progress
from anonsynth.seeds import stream

__all__ = ["beside_holdout"]

FEWEST_PATIENTS = 4
MOST = 60
"""Generated scans that are looked up; the tail of so many is known well enough."""


def beside_holdout(generated: Sequence[Query], index: Index, seed: int, progress: Progress) -> tuple[Matches, ...]:
    """Look some generated scans up among the holdout patients.

    Args:
        generated: All generated scans.
        index: The training scans; the holdout is laid on their mean.
        seed: Says which are drawn.
        progress: Shows how far it is.

    Returns:
        What at most 60 of them resemble; nothing where the holdout has fewer than four patients. Among fewer than the
        training patients the nearest stands out more, which errs towards calling a leak nothing unusual; without this
        null, generated scans that were merely smooth were taken for copies in most draws with six holdout patients.
    """
    records = index.cohort.of(Split.HOLDOUT)
    if len({record.patient for record in records}) < FEWEST_PATIENTS:
        return ()
    hidden = seen_alike(
        build_index(index.cohort, records, index.grid.views, index.folder / "holdout", progress, like=index), index
    )
    chosen = np.sort(stream(seed, "audit", "crossed").permutation(len(generated))[:MOST])
    return compare([generated[i] for i in chosen], hidden, progress, "null: generated scans beside the holdout")
