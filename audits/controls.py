"""Controls that every audit carries: would it have seen a copy, and how often does it cry wolf.

Negative: training patients, each looked up among the *other* training patients. They were never generated, so every
one that is flagged is a false alarm. The null comes from the holdout alone, so this is an independent check of it.

Planted: training scans passed off as generated ones, exact and in weaker kinds, each planted alone among the real
generated scans, which is the hardest case for Benjamini-Hochberg. The share that is flagged, by the p-value alone and
not because the voxels are the same, is the power that the report prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from anonsynth.audits.alignment import Placement, place
from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.finding import ControlResult
from anonsynth.audits.loading import AuditSettings
from anonsynth.audits.nearest import Index, Query, compare
from anonsynth.audits.scoring import Null, Scores, flagged_alone, one_scan_per_patient, score
from anonsynth.cohort.store import Scan
from anonsynth.progress import Progress
from anonsynth.seeds import stream

__all__ = ["EXACT", "NEGATIVE", "WEAKER", "Controls", "run_controls"]

EXACT = "exact copy"
NEGATIVE = "negative"
MAX_PATIENTS = 120

Change = Callable[[Scan, np.random.Generator], Scan]


@dataclass(frozen=True, slots=True)
class Controls:
    """What the controls gave.

    Attributes:
        results: One row a kind, for `audit.json`.
        exact: Scores of the planted exact copies, for the plots.
        negative: Scores of the left-out training patients.
    """

    results: tuple[ControlResult, ...]
    exact: Scores
    negative: Scores

    def of(self, kind: str) -> ControlResult:
        """Return the row of a kind."""
        return next(result for result in self.results if result.kind == kind)


def run_controls(
    training: Sequence[Query],
    index: Index,
    null: Null,
    generated: FloatVector,
    q: float,
    settings: AuditSettings,
    progress: Progress,
) -> Controls:
    """Run all controls.

    Args:
        training: Scans of training patients.
        index: The training scans.
        null: From the holdout.
        generated: (N,) p-values of the generated scans, among which each control is planted.
        q: Level at which the audit flags.
        settings: Its seed says which patients and scans are drawn.
        progress: Shows how far it is.
    """
    seed, weaker = settings.seed, settings.weaker_copies
    drawn = one_scan_per_patient(training, seed, "controls")
    if len(drawn) > MAX_PATIENTS:
        chosen = stream(seed, "audit", "control patients").permutation(len(drawn))[:MAX_PATIENTS]
        drawn = tuple(drawn[int(position)] for position in np.sort(chosen))
    matches = compare(drawn, index, progress, "control: training patients")
    exact = score(matches, null)
    negative = score(matches, null, without_own=True)
    results = [_row(EXACT, exact, generated, q)]
    for kind, change in WEAKER.items() if weaker else ():
        planted = [_changed(query, change, seed, kind) for query in drawn[:weaker]]
        scores = score(compare(planted, index, progress, f"control: {kind}"), null)
        results.append(_row(kind, scores, generated, q))
    alarms = int(flagged_alone(negative.combined, generated, q).sum())
    rate = alarms / len(drawn) if drawn else None
    results.append(ControlResult(kind=NEGATIVE, planted=len(drawn), detected=alarms, false_positive_rate=rate))
    return Controls(tuple(results), exact, negative)


def _row(kind: str, scores: Scores, generated: FloatVector, q: float) -> ControlResult:
    found = flagged_alone(scores.combined, generated, q)
    return ControlResult(kind=kind, planted=len(found), detected=int(found.sum()))


def _changed(query: Query, change: Change, seed: int, kind: str) -> Query:
    def load() -> Scan:
        return change(query.load(), stream(seed, "audit", "control", kind, query.scan))

    return replace(query, load=load)


def _noise(scan: Scan, rng: np.random.Generator) -> Scan:
    """Add white noise at 15 dB to the images; the label map stays."""
    image = scan.image.copy()
    for channel in image:
        inside = channel != 0
        if inside.any():
            channel[inside] += rng.normal(0, channel[inside].std() * 10 ** (-15 / 20), int(inside.sum()))
    return replace(scan, image=image)


def _image_only(scan: Scan, rng: np.random.Generator) -> Scan:
    """Copy the image alone."""
    del rng
    return replace(scan, label=np.zeros_like(scan.label))


def _label_only(scan: Scan, rng: np.random.Generator) -> Scan:
    """Copy the label map alone."""
    del rng
    return replace(scan, present=np.zeros_like(scan.present), image=np.zeros_like(scan.image))


def _moved(scan: Scan, rng: np.random.Generator) -> Scan:
    """Mirror left and right and shift by up to a tenth of each axis."""
    reach = [max(1, n // 10) for n in scan.label.shape]
    x, y, z = (int(rng.integers(-r, r + 1)) for r in reach)
    placement = Placement(1.0, (x, y, z), mirrored=True)
    return replace(scan, image=place(scan.image, placement), label=place(scan.label[None], placement)[0])


def _remapped(scan: Scan, rng: np.random.Generator) -> Scan:
    """Change the contrast: gamma between 0.7 and 1.4, and a smooth bias field of 20 %."""
    gamma = np.float32(np.exp(rng.uniform(np.log(0.7), np.log(1.4))))
    coarse = rng.normal(0, 0.1, (4, 4, 4))
    factors = [n / 4 for n in scan.label.shape]
    bias = np.exp(ndimage.zoom(coarse, factors, order=3, mode="nearest")[tuple(map(slice, scan.label.shape))])
    return replace(scan, image=(np.abs(scan.image) ** gamma * bias).astype(np.float32))


def _blurred(scan: Scan, rng: np.random.Generator) -> Scan:
    """Blur the images by a Gaussian of one voxel."""
    del rng
    image = np.stack([ndimage.gaussian_filter(channel, 1.0) for channel in scan.image])
    return replace(scan, image=np.where(scan.image != 0, image, 0).astype(np.float32))


WEAKER: Mapping[str, Change] = {
    "image copied, no label map": _image_only,
    "label map copied, no image": _label_only,
    "mirrored and shifted": _moved,
    "noise at 15 dB": _noise,
    "contrast and bias changed": _remapped,
    "blurred": _blurred,
}
"""Weaker copies, in the order of the report."""
