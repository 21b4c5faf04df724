"""The questions about whole cohorts, one after the other: every audit puts them, after the search for copies.

A new question is one new file and one line here; `answer.QUESTIONS` counts those that can fail.
"""

from __future__ import annotations

from collections.abc import Sequence

from anonsynth.audits.answer import Answer
from anonsynth.audits.finding import Finding, Verdict
from anonsynth.audits.generator_attack import generator_attack
from anonsynth.audits.index import Index
from anonsynth.audits.linkage import linkage
from anonsynth.audits.loading import AuditSettings, Sides
from anonsynth.audits.membership import membership
from anonsynth.audits.nearest import Query
from anonsynth.audits.population import build_population
from anonsynth.audits.set_level import set_level
from anonsynth.cohort.model import Split
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress

__all__ = ["further_questions"]


def further_questions(
    sides: Sides,
    index: Index,
    drawn: Sequence[Query],
    holdout: Sequence[Query],
    generated: Sequence[Query],
    rules: AuditRules,
    settings: AuditSettings,
    progress: Progress,
) -> Answer:
    """Put every further question.

    Args:
        sides: What is compared.
        index: The training scans.
        drawn: One scan of each of some training patients.
        holdout: One scan of each holdout patient.
        generated: The generated scans.
        rules: The policy's.
        settings: Its seed draws; its model, if there is one, is attacked.
        progress: Shows how far it is.
    """
    records = (sides.reference.of(Split.HOLDOUT), sides.synthetic.records)
    population = build_population(index, drawn, holdout, generated, records, settings.seed, progress)
    if population is None:
        return Answer((_not_compared(),))
    answers = [ask(population, rules, settings.seed) for ask in (set_level, membership, linkage)]
    if settings.model is not None:
        attacked = generator_attack(settings.model, sides.reference, drawn, holdout, rules, settings.seed, progress)
        answers.append(attacked)
    return Answer(
        tuple(finding for answer in answers for finding in answer.findings),
        tuple(plot for answer in answers for plot in answer.plots),
    )


def _not_compared() -> Finding:
    return Finding(
        id="data-copying",
        question="Do the generated scans as a whole crowd around the training patients?",
        statistic="C_T, in standard deviations",
        value=None,
        threshold=0.0,
        verdict=Verdict.INCONCLUSIVE,
        limits="no modality is common to four fifths of the training, holdout and generated scans, or a side has fewer "
        "than two of them, so that nothing was asked about the whole cohort, membership or linkage",
    )
