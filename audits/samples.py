"""What is said of each generated scan: its nearest training scan, its p-value, and why it is flagged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anonsynth.audits.calibration import q_values
from anonsynth.audits.closer import Aspect
from anonsynth.audits.finding import SampleResult
from anonsynth.audits.nearest import Matches
from anonsynth.audits.pairs import Pair, pair_images, pair_labels
from anonsynth.audits.scoring import Null, Scores
from anonsynth.cohort.model import ScanRecord
from anonsynth.cohort.store import Cohort
from anonsynth.progress import Progress

__all__ = ["Sample", "examine"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A generated scan with its nearest training scan.

    Attributes:
        result: Its row of `audit.json`.
        aspect: The aspect with the strongest evidence.
        pairs: Nearest training scan and full-resolution comparison by domain, `image` and `label`.
        distance: 1 - similarity to the nearest training scan in that aspect; described, never a verdict.
    """

    result: SampleResult
    aspect: Aspect
    pairs: Mapping[str, tuple[str, Pair]]
    distance: float

    def flagged_in(self, domain: str) -> bool:
        """Tell whether the scan is flagged with a reason in a domain."""
        return self.result.flagged and any(reason.startswith(domain) for reason in self.result.reasons)


def examine(
    matches: Sequence[Matches],
    scores: Scores,
    null: Null,
    synthetic: Cohort,
    reference: Cohort,
    q: float,
    progress: Progress,
) -> tuple[Sample, ...]:
    """Compare every generated scan with its nearest training scans at full resolution, and judge it.

    Args:
        matches: What each generated scan resembles.
        scores: Their p-values.
        null: Tells whether equal label maps mean anything here.
        synthetic: The generated scans.
        reference: The training scans.
        q: Level of the false-discovery rate at which a scan is flagged.
        progress: Shows how far it is.
    """
    generated = {record.scan: record for record in synthetic.records}
    training = {record.scan: record for record in reference.records}
    qs = q_values(scores.combined)
    samples = []
    for number, match in progress.track(enumerate(matches), total=len(matches), what="closest pairs"):
        strongest = {domain: _strongest(number, scores, domain) for domain in ("image", "label")}
        pairs = _pairs(match, strongest, generated[match.scan], synthetic, training, reference)
        samples.append(_sample(number, match, scores, float(qs[number]), pairs, q, labels_count=null.labels_specific))
    return tuple(samples)


def _pairs(
    match: Matches,
    strongest: Mapping[str, Aspect],
    record: ScanRecord,
    synthetic: Cohort,
    training: Mapping[str, ScanRecord],
    reference: Cohort,
) -> Mapping[str, tuple[str, Pair]]:
    scan = synthetic.load(record)
    pairs = {}
    for domain, compared in (("image", pair_images), ("label", pair_labels)):
        found = match.found[strongest[domain]]
        if found:
            pairs[domain] = (found[0].scan, compared(scan, reference.load(training[found[0].scan])))
    return pairs


def _strongest(number: int, scores: Scores, domain: str | None = None) -> Aspect:
    """Return the aspect with the smallest p-value of a scan; the first of the domain where none has one."""
    own = [aspect for aspect in Aspect if domain in {None, aspect.domain}]
    return min(own, key=lambda aspect: np.nan_to_num(scores.p[aspect][number], nan=2.0))


def _sample(
    number: int,
    match: Matches,
    scores: Scores,
    q_value: float,
    pairs: Mapping[str, tuple[str, Pair]],
    q: float,
    *,
    labels_count: bool,
) -> Sample:
    p = {aspect: scores.p[aspect][number] for aspect in Aspect}
    strongest = _strongest(number, scores)
    reasons = []
    for domain, (_, compared) in pairs.items():
        if compared.identical and (domain == "image" or labels_count):
            reasons.append(f"{domain}: identical to a training scan's, voxel for voxel after alignment")
    flagged = bool(reasons) or q_value <= q
    if q_value <= q:
        for aspect in Aspect:
            if aspect is strongest or p[aspect] <= scores.combined[number]:
                tail = (
                    ", beyond every holdout patient (extrapolated tail)" if scores.extrapolated[aspect][number] else ""
                )
                reasons.append(
                    f"{aspect.domain}: {aspect.value} nearer to one patient than to others, p = {p[aspect]:.2g}{tail}"
                )
    shown = strongest.domain if strongest.domain in pairs else next(iter(pairs), None)
    nearest, pair = pairs[shown] if shown is not None else (None, None)
    result = SampleResult(
        id=match.scan,
        nearest=nearest,
        similarity=None if pair is None else float(np.clip(pair.similarity, -1, 1)),
        p_value=float(scores.combined[number]),
        q_value=q_value,
        flagged=flagged,
        reasons=tuple(reasons),
    )
    found = match.found[strongest]
    return Sample(result, strongest, pairs, found[0].distance if found else float("nan"))
