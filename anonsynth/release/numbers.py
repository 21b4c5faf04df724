"""Verdicts computed anew from the numbers that were published: what a reader of a release can repeat without us.

The rules are those of the audits, written here a second time on purpose: the audits' own code does not check itself.
Copies, power, holdout and the like follow from counts alone. The questions about the whole cohort follow from their
exact p-value, which only the audit with its patients could compute: here it is held against the policy's level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scipy import stats

if TYPE_CHECKING:
    from anonsynth.release.public_audit import PublicAudit, PublicFinding

__all__ = ["EXACT", "FURTHER", "NEGATIVE", "interval", "unfounded", "unseen_rate"]

EXACT, NEGATIVE = "exact copy", "negative"
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
"""They share the policy's `max_false_fail` in equal parts."""
CLOSE = 1e-9


def interval(found: int, of: int, confidence: float) -> tuple[float, float]:
    """Return the two-sided interval of Clopper & Pearson (doi:10.1093/biomet/26.4.404); (0, 1) where `of` is 0.

    Example:
        >>> [round(end, 4) for end in interval(22, 22, 0.95)]
        [0.8456, 1.0]
    """
    if of == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if found == 0 else float(stats.beta.ppf(tail, found, of - found + 1))
    high = 1.0 if found == of else float(stats.beta.ppf(1 - tail, found + 1, of - found))
    return low, high


def unseen_rate(flagged: int, scans: int, power: float, confidence: float) -> float:
    """Return the largest rate of exact copies that could have gone unseen: the one-sided bound divided by the power.

    Example:
        >>> round(unseen_rate(0, 50, 1.0, 0.95), 3)
        0.058
    """
    if scans == 0 or flagged >= scans or power <= 0:
        return 1.0
    return min(1.0, float(stats.beta.ppf(confidence, flagged + 1, scans - flagged)) / power)


def unfounded(finding: PublicFinding, audit: PublicAudit) -> str | None:
    """Return why a finding does not follow from the numbers and the rules beside it, or None.

    One clause without a full stop. A verdict worse than the numbers is believed only where they cannot tell.
    """
    rule = _RULES.get(finding.id)
    if rule is None:
        return None if finding.verdict == "pass" else "it describes, and cannot be anything but a pass"
    return rule(finding, audit)


def _copies(finding: PublicFinding, audit: PublicAudit) -> str | None:
    flagged, scans = sum(sample.flagged for sample in audit.samples), len(audit.samples)
    if scans != audit.generated.scans:
        return f"there are {scans} samples, and {audit.generated.scans} generated scans were audited"
    if not _same(finding.value, flagged / scans if scans else None):
        return f"{flagged} of {scans} scans are flagged, which is another share"
    return _stated(finding, "fail" if flagged else "pass")


def _domain(finding: PublicFinding, audit: PublicAudit) -> str | None:
    flagged = sum(sample.flagged for sample in audit.samples)
    if finding.value and not flagged:
        return "no scan is flagged"
    if finding.value:
        return _stated(finding, "fail")
    return "nothing is flagged here" if finding.verdict == "fail" else None


def _power(finding: PublicFinding, audit: PublicAudit) -> str | None:
    control, rules = audit.control(EXACT), audit.rules
    ends = interval(control.detected, control.planted, rules.confidence)
    return _ends(finding, ends, rules.min_power) or _stated(
        finding, "pass" if ends[0] >= rules.min_power else "inconclusive"
    )


def _unseen(finding: PublicFinding, audit: PublicAudit) -> str | None:
    rules, control = audit.rules, audit.control(EXACT)
    flagged = sum(sample.flagged for sample in audit.samples)
    power = interval(control.detected, control.planted, rules.confidence)[0]
    bound = unseen_rate(flagged, len(audit.samples), power, rules.confidence)
    if not _same(finding.value, bound):
        return f"{bound:.3g} follows from {len(audit.samples)} scans and the planted copies"
    if not _same(finding.threshold, rules.max_copy_rate):
        return f"the policy's threshold is {rules.max_copy_rate:g}"
    return _stated(finding, "pass" if bound <= rules.max_copy_rate else "inconclusive")


def _alarms(finding: PublicFinding, audit: PublicAudit) -> str | None:
    control, rules = audit.control(NEGATIVE), audit.rules
    ends = interval(control.detected, control.planted, rules.confidence)
    return _ends(finding, ends, rules.q) or _stated(finding, "pass" if ends[0] <= rules.q else "inconclusive")


def _holdout(finding: PublicFinding, audit: PublicAudit) -> str | None:
    least = audit.rules.min_holdout_patients
    if not _same(finding.threshold, least):
        return f"the policy asks for {least} holdout patients"
    if finding.value is None or finding.value > audit.holdout_patients:
        return f"there were {audit.holdout_patients} holdout patients"
    return _stated(finding, "pass" if finding.value >= least else "inconclusive")


def _split(finding: PublicFinding, _: PublicAudit) -> str | None:
    return _stated(finding, "pass" if finding.value == 0 else "inconclusive")


def _coverage(finding: PublicFinding, audit: PublicAudit) -> str | None:
    whole = audit.generated.scans > 0 and audit.generated.skipped == 0
    if whole != (finding.value == 1):
        return f"{audit.generated.skipped} scans or files were not compared"
    return _stated(finding, "pass" if whole else "inconclusive")


def _further(finding: PublicFinding, audit: PublicAudit) -> str | None:
    """Hold p against its level; `inconclusive` is believed, as controls and power can make it so."""
    level, p = audit.rules.max_false_fail / len(FURTHER), finding.p_value
    if finding.verdict == "inconclusive":
        return None
    if finding.verdict == "fail":
        return None if p is not None and p <= level else f"a fail needs p of at most {level:.2g}"
    if p is None:
        nothing = finding.id == "inference" and finding.value is None
        return None if nothing else "a pass needs a p-value, and there is none"
    shown = finding.ci is None or finding.threshold is None or finding.ci[0] > finding.threshold
    if p <= level and shown:
        return f"p = {p:.2g} is at most {level:.2g}"
    held = audit.finding("holdout")
    few = held is None or held.value is None or held.value < audit.rules.min_holdout_patients
    return "there are too few holdout patients for a pass" if few else None


_RULES: dict[str, Callable[[PublicFinding, PublicAudit], str | None]] = {
    "copies": _copies,
    "copies-image": _domain,
    "copies-label": _domain,
    "unseen-copies": _unseen,
    "power": _power,
    "false-alarms": _alarms,
    "holdout": _holdout,
    "split": _split,
    "coverage": _coverage,
    **dict.fromkeys(FURTHER, _further),
}


def _stated(finding: PublicFinding, follows: str) -> str | None:
    return None if finding.verdict == follows else f"'{follows}' follows from the numbers, not '{finding.verdict}'"


def _ends(finding: PublicFinding, ends: tuple[float, float], threshold: float) -> str | None:
    if finding.ci is None or not all(_same(one, two) for one, two in zip(finding.ci, ends, strict=True)):
        return f"{ends[0]:.3g} to {ends[1]:.3g} is the interval that follows from the counts"
    return None if _same(finding.threshold, threshold) else f"the policy's threshold is {threshold:g}"


def _same(one: float | None, two: float | None) -> bool:
    if one is None or two is None:
        return one is two
    return abs(one - two) <= CLOSE
