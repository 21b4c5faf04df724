"""Controls that every audit carries: would it have seen a copy, and how often does it cry wolf.

Negative: training patients, each looked up among the *other* training patients. They were never generated, so every
one that is flagged is a false alarm. Where the null's tail begins comes from the holdout alone, so this checks it.

Planted: copies of training scans passed off as generated ones, of every kind in `planted` and at graded strength, each
planted alone among the real generated scans, which is the hardest case for Benjamini-Hochberg. The share that is
flagged, by the p-value alone and not because the voxels are the same, is the power that the report prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.finding import ControlResult
from anonsynth.audits.index import Index
from anonsynth.audits.loading import AuditSettings
from anonsynth.audits.nearest import Matches, Query, compare
from anonsynth.audits.nearness import Usual
from anonsynth.audits.planted import EXACT, KINDS, Kind
from anonsynth.audits.scoring import Null, Scores, flagged_alone, one_scan_per_patient, score
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.store import Scan
from anonsynth.progress import Progress
from anonsynth.seeds import stream

__all__ = ["NEGATIVE", "Controls", "draw_patients", "plant", "run_controls"]

NEGATIVE = "negative"
MAX_PATIENTS = 120


@dataclass(frozen=True, slots=True)
class Controls:
    """What the controls gave.

    Attributes:
        results: One row a kind and strength, for `audit.json`.
        exact: Scores of the planted exact copies, for the plots.
        negative: Scores of the left-out training patients.
    """

    results: tuple[ControlResult, ...]
    exact: Scores
    negative: Scores

    def of(self, kind: str) -> ControlResult:
        """Return the row of a kind."""
        return next(result for result in self.results if result.kind == kind)


def draw_patients(training: Sequence[Query], seed: int) -> tuple[Query, ...]:
    """Draw one scan of each training patient, of at most 120 of them."""
    drawn = one_scan_per_patient(training, seed, "controls")
    if len(drawn) <= MAX_PATIENTS:
        return drawn
    chosen = stream(seed, "audit", "control patients").permutation(len(drawn))[:MAX_PATIENTS]
    return tuple(drawn[position] for position in sorted(chosen.tolist()))


def run_controls(
    drawn: Sequence[Query],
    matches: Sequence[Matches],
    backgrounds: Sequence[Query],
    index: Index,
    null: Null,
    usual: Usual,
    generated: FloatVector,
    q: float,
    settings: AuditSettings,
    progress: Progress,
) -> Controls:
    """Run all controls.

    Args:
        drawn: One scan of each of some training patients.
        matches: What they resemble, their own scans included.
        backgrounds: Generated scans; a planted copy takes from one what it does not copy.
        index: The training scans.
        null: From the holdout.
        usual: For generated scans, as which the copies pass.
        generated: (N,) p-values of the generated scans, among which each control is planted.
        q: Level at which the audit flags.
        settings: Its seed says what is drawn, and how many copies of each kind are planted.
        progress: Shows how far it is.
    """
    exact = score(matches, null, usual)
    negative = score(matches, null, null.usual, without_own=True)
    results = [_row(EXACT, exact, generated, q)]
    for kind in KINDS[1:]:
        for strength in sorted({kind.strength, *kind.curve}):
            copies = settings.weaker_copies if strength == kind.strength else settings.curve_copies
            planted = plant(kind, strength, drawn[:copies], backgrounds, index.cohort.grid, settings.seed)
            if planted:
                name = kind.titled(strength)
                scores = score(compare(planted, index, progress, f"control: {name}"), null, usual)
                results.append(_row(name, scores, generated, q))
    alarms = int(flagged_alone(negative.combined, generated, q).sum())
    rate = alarms / len(drawn) if drawn else None
    results.append(ControlResult(kind=NEGATIVE, planted=len(drawn), detected=alarms, false_positive_rate=rate))
    return Controls(tuple(results), exact, negative)


def plant(
    kind: Kind, strength: float, originals: Sequence[Query], backgrounds: Sequence[Query], grid: Grid, seed: int
) -> tuple[Query, ...]:
    """Return copies of one kind, one of each original, each in front of a background of its own choosing.

    Without backgrounds there is nothing to copy into, and nothing is returned.
    """
    if not backgrounds:
        return ()
    return tuple(_planted(kind, strength, original, backgrounds, grid, seed) for original in originals)


def _planted(
    kind: Kind, strength: float, original: Query, backgrounds: Sequence[Query], grid: Grid, seed: int
) -> Query:
    def load() -> Scan:
        rng = stream(seed, "audit", "control", kind.name, f"{strength:g}", original.scan)
        background = backgrounds[int(rng.integers(len(backgrounds)))].load()
        return kind.make(original.load(), background, grid, strength, rng)

    return replace(original, load=load)


def _row(kind: str, scores: Scores, generated: FloatVector, q: float) -> ControlResult:
    found = flagged_alone(scores.combined, generated, q)
    return ControlResult(kind=kind, planted=len(found), detected=int(found.sum()))
