"""From evidence to findings, and from findings to one verdict.

`fail` if anything is flagged. `pass` only if nothing is, and the audit can show that it would have seen copies: enough
holdout patients, planted copies found, false alarms within bounds, and so many generated scans that the largest copy
rate that could have gone unseen is one the policy tolerates. Everything else is `inconclusive`, and says what it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anonsynth.audits.calibration import exact_interval, samples_needed, upper_bound
from anonsynth.audits.controls import NEGATIVE
from anonsynth.audits.finding import AuditDocument, ControlResult, Finding, Verdict
from anonsynth.audits.planted import EXACT
from anonsynth.policies.model import AuditRules

__all__ = ["FURTHER", "Domain", "Evidence", "conclude", "exact_power", "findings", "sentence"]

COPY_CRITERIA = ("singling out", "linkability")
FURTHER = (
    "data-copying",
    "membership",
    "membership-few",
    "reconstruction",
    "reconstruction-few",
    "linkage",
    "inference",
    "singling-out",
)
"""Findings of the further questions that can fail a cohort."""


@dataclass(frozen=True, slots=True)
class Domain:
    """What was seen in one domain of the generated scans.

    Attributes:
        name: `image` or `label`.
        compared: Generated scans that could be compared there.
        flagged: Flagged scans with a reason there.
        calibrated: Whether the holdout has enough to calibrate it.
    """

    name: str
    compared: int
    flagged: int
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a verdict rests on.

    Attributes:
        generated: Generated scans that were compared.
        skipped: Generated scans or files that could not be.
        flagged: Flagged ones.
        domains: Images and label maps apart.
        controls: Results of the controls.
        train_patients: Training patients.
        holdout_patients: Holdout patients in the null.
        shared: Holdout scans found among the training scans.
    """

    generated: int
    skipped: int
    flagged: int
    domains: tuple[Domain, ...]
    controls: tuple[ControlResult, ...]
    train_patients: int
    holdout_patients: int
    shared: int


def findings(evidence: Evidence, rules: AuditRules) -> tuple[Finding, ...]:
    """Answer every question of the audit."""
    power = exact_power(evidence.controls, rules.confidence)
    return (
        _copies(evidence, rules),
        *(_domain(domain, rules) for domain in evidence.domains if domain.compared),
        _unseen(evidence, rules, power),
        _power(evidence, rules),
        _false_alarms(evidence, rules),
        _holdout(evidence, rules),
        _split(evidence),
        _coverage(evidence),
    )


def conclude(answers: Sequence[Finding]) -> Verdict:
    """Return the worst verdict of all findings; `fail` is worse than `inconclusive`."""
    verdicts = {finding.verdict for finding in answers}
    for worst in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if worst in verdicts:
            return worst
    return Verdict.PASS


def sentence(document: AuditDocument) -> str:
    """Return the verdict in one sentence."""
    flagged = sum(sample.flagged for sample in document.samples)
    total, patients = len(document.samples), document.inputs.train.patients
    if document.verdict is Verdict.FAIL:
        others = ", ".join(f.id for f in document.findings if f.verdict is Verdict.FAIL and f.id in FURTHER)
        copies = (
            f"{flagged} of {total} generated scans are nearer to one training patient than a scan that copies nobody "
            "would be"
        )
        if not others:
            return f"FAIL: {copies}."
        also = f"training patients are betrayed as holdout patients are not ({others})"
        return f"FAIL: {copies}, and {also}." if flagged else f"FAIL: no generated scan was flagged, but {also}."
    if document.verdict is Verdict.PASS:
        planted = next(control for control in document.controls if control.kind == EXACT)
        unseen = document.finding("unseen-copies").value or 0.0
        return (
            f"PASS: none of {total} generated scans was flagged as a copy of one of {patients} training patients; "
            f"{planted.detected} of {planted.planted} planted copies were found, and a rate of exact copies above "
            f"{unseen:.1%} would have shown."
        )
    missing = "; ".join(f.limits for f in document.findings if f.verdict is Verdict.INCONCLUSIVE)
    return f"INCONCLUSIVE: nothing was flagged, but {missing}."


def exact_power(controls: Sequence[ControlResult], confidence: float) -> float:
    """Return the lower end of the interval of the detection rate of planted exact copies."""
    planted = next(control for control in controls if control.kind == EXACT)
    return exact_interval(planted.detected, planted.planted, confidence).low


def _copies(evidence: Evidence, rules: AuditRules) -> Finding:
    n, found = evidence.generated, evidence.flagged
    bounds = exact_interval(found, n, rules.confidence)
    unseen = upper_bound(found, n, rules.confidence)
    return Finding(
        id="copies",
        question="Is any generated scan nearer to one training patient than a scan that copies nobody would be?",
        statistic=f"share of generated scans flagged at a false-discovery rate of {rules.q:g}",
        value=found / n if n else None,
        ci=(bounds.low, bounds.high),
        threshold=0.0,
        verdict=Verdict.FAIL if found else Verdict.PASS,
        limits=f"of all scans that this generator would make, up to {unseen:.1%} may be such; {n} were looked at",
        criteria=COPY_CRITERIA,
    )


def _domain(domain: Domain, rules: AuditRules) -> Finding:
    bounds = exact_interval(domain.flagged, domain.compared, rules.confidence)
    things = {"image": "images", "label": "label maps"}[domain.name]
    verdict = Verdict.FAIL if domain.flagged else Verdict.PASS
    limits = (
        "a copied part that is much smaller than a fifth of each axis may go unseen"
        if domain.name == "image"
        else f"only whole {things} are compared, not parts of them"
    )
    if not domain.calibrated:
        verdict = verdict if domain.flagged else Verdict.INCONCLUSIVE
        limits = f"the holdout has too few {things} to say how near is too near; give label maps of holdout patients"
    return Finding(
        id=f"copies-{domain.name}",
        question=f"Among the flagged scans, whose {things} are the reason?",
        statistic=f"share of generated {things} flagged",
        value=domain.flagged / domain.compared,
        ci=(bounds.low, bounds.high),
        threshold=0.0,
        verdict=verdict,
        limits=limits,
        criteria=COPY_CRITERIA,
    )


def _unseen(evidence: Evidence, rules: AuditRules, power: float) -> Finding:
    """Bound the rate of copies: one in `power` of them would have been flagged, so the bound grows by that."""
    seen = upper_bound(evidence.flagged, evidence.generated, rules.confidence)
    bound = min(1.0, seen / power) if power > 0 else 1.0
    enough = bound <= rules.max_copy_rate
    limits = f"exact copies at a rate of up to {bound:.1%} could have gone unseen; weaker copies at higher rates"
    if not enough:
        needed = samples_needed(rules.max_copy_rate * power, rules.confidence) if power > 0 else None
        limits = (
            f"a copy rate of up to {bound:.1%} could have gone unseen with {evidence.generated} generated scans"
            + (f"; the policy's {rules.max_copy_rate:.0%} needs {needed} scans without a flag" if needed else "")
        )
    return Finding(
        id="unseen-copies",
        question="How many copies could there be that this audit did not see?",
        statistic=f"one-sided {rules.confidence:.0%} upper bound of the rate of exact copies, divided by the power",
        value=bound,
        threshold=rules.max_copy_rate,
        verdict=Verdict.PASS if enough else Verdict.INCONCLUSIVE,
        limits=limits,
        criteria=COPY_CRITERIA,
    )


def _power(evidence: Evidence, rules: AuditRules) -> Finding:
    planted = next(control for control in evidence.controls if control.kind == EXACT)
    bounds = exact_interval(planted.detected, planted.planted, rules.confidence)
    enough = bounds.low >= rules.min_power
    limits = "the power is that for exact copies; for weaker kinds see the controls"
    if not enough:
        limits = (
            f"{planted.detected} of {planted.planted} planted copies were found, so the power may be {bounds.low:.0%}"
        )
        if planted.detected == planted.planted:
            limits += f"; {_patients_needed(rules)} training patients would show the policy's {rules.min_power:.0%}"
        else:
            limits += "; more holdout patients sharpen the p-values"
    return Finding(
        id="power",
        question="Would the audit have seen a copy?",
        statistic="share of planted exact copies that were flagged, each planted alone",
        value=planted.detected / planted.planted if planted.planted else None,
        ci=(bounds.low, bounds.high),
        threshold=rules.min_power,
        verdict=Verdict.PASS if enough else Verdict.INCONCLUSIVE,
        limits=limits,
    )


def _patients_needed(rules: AuditRules) -> int:
    """Return how many planted copies, all found, lift the interval's lower end to the policy's power."""
    count = 1
    while exact_interval(count, count, rules.confidence).low < rules.min_power and count < 100_000:
        count += 1
    return count


def _false_alarms(evidence: Evidence, rules: AuditRules) -> Finding:
    control = next(control for control in evidence.controls if control.kind == NEGATIVE)
    bounds = exact_interval(control.detected, control.planted, rules.confidence)
    calm = bounds.low <= rules.q
    return Finding(
        id="false-alarms",
        question="How often is a scan flagged that copies nobody?",
        statistic="share of training patients flagged when looked up among the other training patients",
        value=control.false_positive_rate,
        ci=(bounds.low, bounds.high),
        threshold=rules.q,
        verdict=Verdict.PASS if calm else Verdict.INCONCLUSIVE,
        limits=f"with {control.planted} training patients a rate of false alarms of up to {bounds.high:.1%} is possible"
        + ("" if calm else "; training and holdout patients do not look alike, draw the holdout at random"),
    )


def _holdout(evidence: Evidence, rules: AuditRules) -> Finding:
    count = evidence.holdout_patients
    enough = count >= rules.min_holdout_patients
    return Finding(
        id="holdout",
        question="Are there enough holdout patients to say how near is too near?",
        statistic="holdout patients in the null",
        value=float(evidence.holdout_patients),
        threshold=float(rules.min_holdout_patients),
        verdict=Verdict.PASS if enough else Verdict.INCONCLUSIVE,
        limits=f"p-values below {1 / (count + 1):.2g} rest on an extrapolated tail"
        if enough
        else f"there are {count} holdout patients, the policy asks for {rules.min_holdout_patients}"
        + _cohort_needed(evidence, rules),
    )


def _cohort_needed(evidence: Evidence, rules: AuditRules) -> str:
    """Say how many patients make a cohort that suffices: with this share held out, and with the best share."""
    train, holdout = _patients_needed(rules), rules.min_holdout_patients
    total = evidence.train_patients + evidence.holdout_patients
    least = f"{train + holdout} patients, {holdout} of them held out"
    if not (evidence.train_patients and evidence.holdout_patients):
        return f"; {least} would do"
    # In whole numbers: a share of 1/3 must not ask for a patient more because of its last binary digit.
    by_holdout = -(-holdout * total // evidence.holdout_patients)
    by_train = -(-train * total // evidence.train_patients)
    return f"; with this share held out that takes {max(by_holdout, by_train)} patients in place of {total}, or {least}"


def _split(evidence: Evidence) -> Finding:
    return Finding(
        id="split",
        question="Are training and holdout different people?",
        statistic="holdout scans whose image is also among the training scans",
        value=float(evidence.shared),
        threshold=0.0,
        verdict=Verdict.INCONCLUSIVE if evidence.shared else Verdict.PASS,
        limits=f"{evidence.shared} holdout scans are also training scans; take them out of one side"
        if evidence.shared
        else "two different scans of one person on both sides are not recognised",
    )


def _coverage(evidence: Evidence) -> Finding:
    total = evidence.generated + evidence.skipped
    return Finding(
        id="coverage",
        question="Was every generated scan compared?",
        statistic="share of generated scans that were compared",
        value=evidence.generated / total if total else None,
        threshold=1.0,
        verdict=Verdict.INCONCLUSIVE if evidence.skipped else Verdict.PASS,
        limits=f"{evidence.skipped} generated scans or files could not be compared; mend or remove them"
        if evidence.skipped
        else "scans are compared after a mirror, a shift, a rotation of up to 25° and a change of scale of up to a "
        "third, as wholes and in windows of a fifth of each axis; copied parts much smaller are not searched for",
    )
