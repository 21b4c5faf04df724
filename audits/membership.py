"""Can somebody who has the substitute cohort alone tell who was trained on?

The attacker holds a real scan and asks how near the substitute cohort comes to it. Four attacks, scores larger for
likelier members: the distance to the nearest generated scan; that distance beside those to the next five; the share of
generated scans within a small radius (Monte-Carlo attack of Hilprecht et al. 2019, doi:10.2478/popets-2019-0067); and a
kernel density estimate of the generated scans at the patient's (the numerator of DOMIAS, van Breugel et al. 2023).
Members are training patients, non-members holdout patients, one scan each.

Two questions are asked: are members recognised on average (area under the ROC curve), and are a few of them recognised
for sure (true positive rate at few false alarms; Carlini et al. 2022, arXiv 2112.03570). Each p-value is exact and
corrected for the attacks (`permutation`). Two negative controls: random halves of the members against each other, and
a blind attack, which compares real scans with real scans only; if that tells the sides apart, they were not drawn from
one population and a success of the real attacks would prove nothing.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from anonsynth.audits.answer import Answer
from anonsynth.audits.blind import BLIND, blind_p
from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.membership_answer import Attacks, Wording, answer_membership
from anonsynth.audits.points import FloatMatrix
from anonsynth.audits.population import Population
from anonsynth.policies.model import AuditRules
from anonsynth.seeds import stream

__all__ = ["membership", "substitute_scores"]

MOST = 400
"""Patients of either side that are attacked."""
NEXT = 6
CLOSE = 0.01
"""The Monte-Carlo attack's radius: this quantile of all distances between patients and generated scans."""


WORDING = Wording(
    ("membership", "membership-few"),
    (
        "Can the substitute cohort alone tell training patients from others, on average?",
        "Are a few training patients recognised for sure from the substitute cohort alone?",
    ),
    "Membership from the substitute cohort alone",
    "who holds the generated scans and a real scan",
)


def membership(population: Population, rules: AuditRules, seed: int) -> Answer:
    """Attack the training patients by the substitute cohort."""
    points = population.points
    chosen = [
        side[stream(seed, "audit", "membership", name).permutation(len(side))[:MOST]]
        for name, side in (("members", points.train), ("others", points.holdout))
    ]
    inside, outside = chosen
    scores = substitute_scores(np.concatenate(chosen), points.generated)
    attacks = Attacks(
        {name: values[: len(inside)] for name, values in scores.items()},
        {name: values[len(inside) :] for name, values in scores.items()},
    )
    return answer_membership(attacks, {BLIND: blind_p(inside, outside, seed)}, WORDING, rules, seed)


def substitute_scores(patients: FloatMatrix, generated: FloatMatrix) -> dict[str, FloatVector]:
    """Return the scores (N,) of each attack on N patients by G generated scans.

    Example:
        >>> scores = substitute_scores(np.array([[0.0], [9.0]]), np.array([[0.1], [2.0], [3.0]]))
        >>> all(values[0] >= values[1] for values in scores.values())
        True
    """
    away = cdist(patients, generated)
    near = np.sort(away, axis=1)[:, : min(NEXT, away.shape[1])]
    tiny = np.finfo(np.float64).tiny
    relative = np.log(np.maximum(near[:, 1:].mean(1), tiny) / np.maximum(near[:, 0], 1e-9)) if near.shape[1] > 1 else 0
    radius = float(np.quantile(away, CLOSE))
    width = max(float(np.median(near[:, 0])), 1e-9) / 2
    return {
        "nearest generated scan": -near[:, 0],
        "nearest beside the next": np.broadcast_to(relative, len(patients)).astype(np.float64),
        "share of generated scans close by": (away <= radius).mean(1),
        "density of generated scans": logsumexp(-0.5 * (away / width) ** 2, axis=1),
    }
