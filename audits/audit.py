"""`anonsynth audit`: one question to a substitute cohort, answered with a null, controls and the power they show.

Zone: private. The folder holds `audit.json`, `report.html` (shows real scans) and, for folders in place of a cohort,
`private_names.tsv`. Reading: find the nearest training patients of every generated scan (`nearest`), calibrate with the
holdout (`calibration`, `scoring`), run the controls (`controls`), examine the closest pairs (`samples`), ask about the
whole cohort, membership, the generator and linkage (`further`), conclude (`verdict`), write (`report`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from anonsynth.audits.answer import Answer
from anonsynth.audits.closer import Aspect
from anonsynth.audits.controls import Controls, draw_patients, run_controls
from anonsynth.audits.crossed import beside_holdout
from anonsynth.audits.embedding import learn
from anonsynth.audits.finding import AuditDocument, PolicyUsed, validated
from anonsynth.audits.further import further_questions
from anonsynth.audits.index import build_index
from anonsynth.audits.loading import AuditSettings, Sides, find_sources, open_sides
from anonsynth.audits.nearest import cohort_queries, compare
from anonsynth.audits.nearness import usual_of
from anonsynth.audits.report import ReportData, write_report
from anonsynth.audits.samples import Sample, examine
from anonsynth.audits.scoring import Null, Scores, make_null, one_scan_per_patient, score
from anonsynth.audits.verdict import Domain, Evidence, conclude, findings, sentence
from anonsynth.audits.views import ViewGrid
from anonsynth.cohort.model import Split
from anonsynth.errors import InputError, UsageError
from anonsynth.files import UNFINISHED, begin_folder, finish_folder, is_finished, read_json, write_json
from anonsynth.policies.model import AuditRules, Policy
from anonsynth.progress import Progress

__all__ = ["AuditResult", "AuditSettings", "audit"]

DOCUMENT, REPORT = "audit.json", "report.html"


@dataclass(frozen=True, slots=True)
class AuditResult:
    """A finished audit.

    Attributes:
        document: What `audit.json` holds.
        folder: The audit's folder.
        resumed: Whether it was done before and only read.
    """

    document: AuditDocument
    folder: Path
    resumed: bool = False

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / REPORT

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return sentence(self.document)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Everything that was measured."""

    null: Null
    scores: Scores
    controls: Controls
    samples: tuple[Sample, ...]
    further: Answer


def audit(settings: AuditSettings, policy: Policy, progress: Progress) -> AuditResult:
    """Audit a substitute cohort; return at once if the same audit is done already.

    Args:
        settings: What to audit, against what, and where to write.
        policy: Its thresholds win.
        progress: Shows how far it is.

    Raises:
        UsageError: If it is not clear what to compare with.
        InputError: If there is no holdout, or a side cannot be read.
    """
    sources = find_sources(settings, policy.audit)
    done = _finished(settings.out, sources.sha256)
    if done is not None:
        return AuditResult(done, settings.out, resumed=True)
    _claim(settings.out)
    work = settings.out / "work" / sources.sha256[:16]
    sides = open_sides(settings, sources, work, progress)
    seen = _look(sides, policy.audit, settings, work / "index", progress)
    document = _document(sides, seen, policy)
    write_report(
        settings.out / REPORT, _report_data(document, sides, seen, from_cohort=sources.cohort is not None), progress
    )
    write_json(settings.out / DOCUMENT, validated(document))
    shutil.rmtree(settings.out / "work")
    finish_folder(settings.out)
    return AuditResult(document, settings.out)


def _claim(out: Path) -> None:
    """Begin the folder, but never in somebody else's: work in it is thrown away at the end."""
    if out.is_dir() and any(out.iterdir()) and not ((out / DOCUMENT).is_file() or (out / UNFINISHED).is_file()):
        raise UsageError("the folder named with --out holds other things; name a new one")
    begin_folder(out)


def _finished(out: Path, sha256: str) -> AuditDocument | None:
    if not (is_finished(out, DOCUMENT) and is_finished(out, REPORT)):
        return None
    try:
        document = AuditDocument.model_validate(read_json(out / DOCUMENT))
    except (ValidationError, InputError):
        return None
    return document if document.inputs.sha256 == sha256 else None


def _look(sides: Sides, rules: AuditRules, settings: AuditSettings, folder: Path, progress: Progress) -> _Seen:
    reference, synthetic = sides.reference, sides.synthetic
    values = {entry.value for cohort in (reference, synthetic) for entry in cohort.info.labels}
    grid = ViewGrid(reference.grid.shape, reference.grid.spacing, tuple(sorted(values)))
    index = build_index(reference, reference.of(Split.TRAIN), grid, folder, progress)
    index = learn(index, settings.seed, progress)
    holdout = one_scan_per_patient(cohort_queries(reference, reference.of(Split.HOLDOUT)), settings.seed, "holdout")
    drawn = draw_patients(cohort_queries(reference, index.records), settings.seed)
    training = compare(drawn, index, progress, "control: training patients")
    generated = cohort_queries(synthetic, synthetic.records)
    beside = beside_holdout(generated, drawn, index, settings.seed, progress)
    null = make_null(compare(holdout, index, progress, "null: holdout patients"), training, beside, index.students)
    matches = compare(generated, index, progress, "generated scans")
    usual = usual_of(matches, beside=null.usual)
    scores = score(matches, null, usual)
    controls = run_controls(
        drawn, training, generated, index, null, usual, scores.combined, rules.q, settings, progress
    )
    samples = examine(matches, scores, null, synthetic, reference, rules.q, progress)
    further = further_questions(sides, index, drawn, holdout, generated, rules, settings, progress)
    return _Seen(null, scores, controls, samples, further)


def _document(sides: Sides, seen: _Seen, policy: Policy) -> AuditDocument:
    domains = []
    for name in ("image", "label"):
        compared = sum(name in sample.pairs for sample in seen.samples)
        if name == "label":
            compared = sides.inputs.synthetic.labelled
        flagged = sum(sample.flagged_in(name) for sample in seen.samples)
        domains.append(Domain(name, compared, flagged, calibrated=seen.null.calibrated(name)))
    evidence = Evidence(
        generated=len(seen.samples),
        skipped=sides.inputs.synthetic.skipped,
        flagged=sum(sample.result.flagged for sample in seen.samples),
        domains=tuple(domains),
        controls=seen.controls.results,
        train_patients=sides.inputs.train.patients,
        holdout_patients=max(seen.null.size(aspect) for aspect in Aspect),
        shared=seen.null.shared,
    )
    answers = (*findings(evidence, policy.audit), *seen.further.findings)
    return AuditDocument(
        verdict=conclude(answers),
        policy=PolicyUsed(id=policy.id, version=policy.version, audit=policy.audit),
        inputs=sides.inputs,
        findings=answers,
        samples=tuple(sample.result for sample in seen.samples),
        controls=seen.controls.results,
    )


def _report_data(document: AuditDocument, sides: Sides, seen: _Seen, *, from_cohort: bool) -> ReportData:
    order = np.argsort([sample.result.p_value for sample in seen.samples], kind="stable")
    return ReportData(
        document=document,
        samples=tuple(seen.samples[int(position)] for position in order),
        null=seen.null,
        scores=seen.scores,
        exact=seen.controls.exact,
        negative=seen.controls.negative,
        reference=sides.reference,
        synthetic=sides.synthetic,
        skipped=sides.skipped,
        from_cohort=from_cohort,
        further=seen.further.plots,
    )
