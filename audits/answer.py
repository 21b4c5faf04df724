"""What a question hands to the audit: findings and plots; and how sure it has to be before it says `fail`.

The copies of single scans have a false-discovery rate of their own. The further questions (set-level, membership,
generator, linkage) share one budget: the policy's `max_false_fail`, the chance that a cohort which leaks nothing fails
because of any of them. Each of the `QUESTIONS` gets an equal part, whether it is put or not, and divides its part among
the attacks that it tries. By the union bound the sum holds however the questions depend on one another, because every
p-value that decides is exact: labels of patients are permuted, or counted by Fisher's test, given everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

from anonsynth.audits.figures import Plot
from anonsynth.audits.finding import Finding, Verdict
from anonsynth.audits.verdict import FURTHER
from anonsynth.policies.model import AuditRules

__all__ = ["QUESTIONS", "Answer", "Weighed", "level_of", "weigh"]

QUESTIONS = len(FURTHER)
"""Questions that share the chance of a false `fail`, whether they are put or not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The findings of one file of questions, and its plots."""

    findings: tuple[Finding, ...]
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True, slots=True)
class Weighed:
    """A verdict and why it is no other, in words; `why` is empty for a plain pass."""

    verdict: Verdict
    why: str


def level_of(rules: AuditRules) -> float:
    """Return the p-value at or below which one question fails a cohort."""
    return rules.max_false_fail / QUESTIONS


def weigh(
    p: float, controls: dict[str, float], holdout: int, rules: AuditRules, *, shown: bool = True, seeable: bool = True
) -> Weighed:
    """Turn a p-value and those of its negative controls into a verdict.

    Args:
        p: Of the leak, corrected for the attacks tried; NaN where it could not be computed.
        controls: p-values of comparisons in which there is nothing to find, by what they compare; NaN is no control.
        holdout: Holdout patients.
        rules: The policy's.
        shown: Whether the estimate's own lower bound shows the leak too.
        seeable: Whether any leak, even of every patient, would have been noticed.
    """
    level = level_of(rules)
    for name, control in controls.items():
        if control <= level:
            return Weighed(
                Verdict.INCONCLUSIVE,
                f"the negative control ({name}, p = {control:.2g}) sees a difference where there can be no leak, so "
                "that this comparison proves nothing; draw the holdout at random",
            )
    if p <= level and shown:
        return Weighed(Verdict.FAIL, f"p = {p:.2g}, at most {level:.2g} was needed")
    if holdout < rules.min_holdout_patients:
        return Weighed(
            Verdict.INCONCLUSIVE,
            f"there are {holdout} holdout patients to compare, the policy asks for {rules.min_holdout_patients}",
        )
    if not seeable:
        return Weighed(Verdict.INCONCLUSIVE, "with so few patients not even a leak of everybody would have shown")
    if not p >= 0:
        return Weighed(Verdict.INCONCLUSIVE, "there are too few scans to compute it")
    return Weighed(Verdict.PASS, "")
