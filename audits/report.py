"""The report: one HTML file that needs nothing else, the verdict first, every plot with what bad looks like.

Internal edition: it shows real scans and must not leave the private zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from anonsynth.audits.calibration import exact_interval
from anonsynth.audits.closer import Aspect
from anonsynth.audits.figures import Plot, nearness_plot, p_value_plot, pair_picture, power_plot
from anonsynth.audits.finding import AuditDocument, ControlResult
from anonsynth.audits.planted import KINDS
from anonsynth.audits.prepare import Skipped
from anonsynth.audits.samples import Sample
from anonsynth.audits.scoring import Null, Scores
from anonsynth.audits.verdict import sentence
from anonsynth.cohort.store import Cohort
from anonsynth.files import write_text
from anonsynth.progress import Progress

__all__ = ["ReportData", "write_report"]

PAIRS_SHOWN = 12
TITLES = {
    Aspect.INTENSITY: "Images: intensities",
    Aspect.CONTRAST: "Images: whatever the contrast, voxel by voxel",
    Aspect.EDGES: "Images: edges",
    Aspect.GRAIN: "Images: the grain of single voxels",
    Aspect.PARTS: "Images: part by part, each moved on its own",
    Aspect.TOGETHER: "Images: all of these together",
    Aspect.SPOT: "Images: the grain of one part",
    Aspect.REGION: "Images: the region that is nearest",
    Aspect.LEARNED: "Images: in the eyes of a network that learned to know scans again",
    Aspect.LABEL: "Label maps",
}


@dataclass(frozen=True, slots=True)
class ReportData:
    """What the report shows.

    Attributes:
        document: The audit's document.
        samples: Generated scans, smallest p-value first.
        null: From the holdout.
        scores: Of the generated scans, in the order of the document.
        exact: Of the planted exact copies.
        negative: Of the left-out training patients.
        reference: Training and holdout scans.
        synthetic: Generated scans.
        skipped: Generated scans that could not be compared.
        from_cohort: Whether the training side is a cohort, not folders.
        further: Plots of the questions about the whole cohort, membership, the generator and linkage.
    """

    document: AuditDocument
    samples: tuple[Sample, ...]
    null: Null
    scores: Scores
    exact: Scores
    negative: Scores
    reference: Cohort
    synthetic: Cohort
    skipped: tuple[Skipped, ...]
    from_cohort: bool
    further: tuple[Plot, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A line of the table of controls; rates in [0, 1]."""

    result: ControlResult
    rate: float
    low: float
    high: float


def write_report(path: Path, data: ReportData, progress: Progress) -> None:
    """Write the report atomically.

    Args:
        path: The HTML file.
        data: What to show.
        progress: Shows how far it is.
    """
    environment = Environment(
        loader=PackageLoader("anonsynth.audits"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        document=data.document,
        sentence=sentence(data.document),
        samples=data.samples,
        plots=_plots(data),
        power=_power_plot(data.document),
        further=data.further,
        pairs=_pairs(data, progress),
        controls=_controls(data.document),
        skipped=data.skipped,
        command="--cohort COHORT" if data.from_cohort else "--train DIR --holdout DIR",
    )
    write_text(path, html)


def _plots(data: ReportData) -> Sequence[Plot]:
    rules = data.document.policy.audit
    flagged = np.array([sample.flagged for sample in data.document.samples], bool)
    plots = []
    for aspect, title in TITLES.items():
        if not np.isfinite(data.scores.statistics[aspect]).any():
            continue
        groups = {
            "generated scans": data.scores.statistics[aspect],
            "holdout patients": data.null.values[aspect],
            "generated scans beside the holdout": data.null.crossed[aspect],
            "training patients, own scans left out": data.negative.statistics[aspect],
            "planted exact copies": data.exact.statistics[aspect],
        }
        median = float(np.nanmedian(groups["generated scans"]))
        plots.append(
            Plot(
                title,
                nearness_plot(groups, flagged, title),
                f"Dots of relative nearness: generated scans have a median of {median:.2f}, "
                f"{int(flagged.sum())} of {len(flagged)} are flagged.",
                "Each dot is a scan. Good: generated scans lie where holdout patients lie. Bad: generated scans to the "
                "right of all holdout patients, towards the planted copies; flagged ones are ringed.",
            )
        )
    plots.append(
        Plot(
            "P-values",
            p_value_plot(data.scores.combined, data.negative.combined, rules.q),
            f"Sorted p-values; {int(flagged.sum())} generated scans lie below the line at which they are flagged.",
            "Good: dots along or above the dotted line. Bad: blue dots below the red line, flagged as copies. "
            "Grey dots below it are false alarms: then the holdout does not resemble the training patients.",
        )
    )
    return plots


def _power_plot(document: AuditDocument) -> Plot | None:
    """Return the power curves of the kinds that were planted at several strengths; None where none was."""
    results = {result.kind: result for result in document.controls}
    curves = {}
    for kind in KINDS:
        points = []
        for strength in kind.curve:
            result = results.get(kind.titled(strength))
            if result is not None and result.planted:
                bounds = exact_interval(result.detected, result.planted, document.policy.audit.confidence)
                points.append((f"{strength:g}", result.detected / result.planted, bounds.low, bounds.high))
        if len(points) > 1:
            curves[kind.name.format("…")] = points
    if not curves:
        return None
    return Plot(
        "Power by strength",
        power_plot(curves),
        f"For {len(curves)} kinds of copies the share that was flagged, against the strength of the change.",
        "From left to right the copy is changed more, or less of it is copied. Good: found on the left, lost "
        "only far to "
        "the right. Bad: lost on the left already. Bars are exact intervals; few copies are planted, so they are "
        "wide. What "
        "lies where a curve is low is not excluded by this audit.",
    )


def _pairs(data: ReportData, progress: Progress) -> Sequence[tuple[Sample, Plot]]:
    generated = {record.scan: record for record in data.synthetic.records}
    training = {record.scan: record for record in data.reference.records}
    chosen = [sample for sample in data.samples[:PAIRS_SHOWN] if sample.pairs]
    shown = []
    for sample in progress.track(chosen, total=len(chosen), what="pictures of the closest pairs"):
        domain = sample.aspect.domain if sample.aspect.domain in sample.pairs else next(iter(sample.pairs))
        nearest, pair = sample.pairs[domain]
        first, second = data.synthetic.load(generated[sample.result.id]), data.reference.load(training[nearest])
        alike = f"{pair.similarity:.4f}"
        ssim = "" if np.isnan(pair.ssim) else f", structural similarity {pair.ssim:.3f}"
        measure = "correlation" if domain == "image" else "Dice"
        mirrored = ", mirrored" if pair.placement.mirrored else ""
        moved = f"moved by {', '.join(map(str, pair.placement.shift))} voxels{mirrored}"
        caption = (
            f"{measure} {alike}{ssim}; {moved}. Bad: the same folds and the same noise, an empty difference, a grey "
            "overlay (generated red, training cyan)."
        )
        alt = (
            f"Generated scan {sample.result.id}, training scan {nearest}, their difference and both on each other; "
            f"{measure} {alike}."
        )
        shown.append((sample, Plot(sample.result.id, pair_picture(first, second, pair.placement), alt, caption)))
    return shown


def _controls(document: AuditDocument) -> Sequence[ControlRow]:
    rows = []
    for result in document.controls:
        bounds = exact_interval(result.detected, result.planted, document.policy.audit.confidence)
        rate = result.detected / result.planted if result.planted else 0.0
        rows.append(ControlRow(result, rate, bounds.low, bounds.high))
    return rows
