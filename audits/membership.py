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

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from anonsynth.audits.answer import Answer, Weighed, level_of, weigh
from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.figures import Plot
from anonsynth.audits.finding import Finding
from anonsynth.audits.further_figures import roc_plot
from anonsynth.audits.membership_rates import FALSE_POSITIVE_RATES, control, membership_rates, smallest_advantage
from anonsynth.audits.permutation import AttackTests, attack_tests
from anonsynth.audits.points import FloatMatrix
from anonsynth.audits.population import Population
from anonsynth.policies.model import AuditRules
from anonsynth.seeds import stream

__all__ = ["Attacks", "answer_membership", "membership", "substitute_scores"]

MOST = 400
"""Patients of either side that are attacked."""
NEXT = 6
CLOSE = 0.01
"""The Monte-Carlo attack's radius: this quantile of all distances between patients and generated scans."""
SPLITS = 400
CRITERIA = ("inference",)


@dataclass(frozen=True, slots=True)
class Attacks:
    """Scores of several attacks; larger means more likely a member.

    Attributes:
        members: Attack to (m,) scores of training patients.
        others: Attack to (n,) scores of holdout patients.
    """

    members: Mapping[str, FloatVector]
    others: Mapping[str, FloatVector]

    def together(self) -> FloatMatrix:
        """Return (A, m + n) scores, members first."""
        return np.stack([np.concatenate([self.members[name], self.others[name]]) for name in self.members])


@dataclass(frozen=True, slots=True)
class Wording:
    """How the two findings of a family of attacks are called.

    Attributes:
        ids: Of the finding about the average, and of that about a few.
        questions: Likewise.
        title: Of the plot.
        means: What the attacker holds, for the limits.
    """

    ids: tuple[str, str]
    questions: tuple[str, str]
    title: str
    means: str


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
    blind = _blind(np.concatenate([inside, outside]))
    found = attack_tests(np.concatenate([blind, -blind]), len(inside), (), seed)
    return answer_membership(attacks, {"real scans compared with real scans only": found.average}, WORDING, rules, seed)


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


def answer_membership(
    attacks: Attacks, controls: Mapping[str, float], wording: Wording, rules: AuditRules, seed: int
) -> Answer:
    """Turn the scores of a family of attacks into its two findings and a plot.

    Args:
        attacks: The scores.
        controls: p-values of further negative controls.
        wording: Names and questions.
        rules: The policy's.
        seed: Of the permutations and of the halves.
    """
    names = list(attacks.members)
    m, n = (len(next(iter(side.values()))) for side in (attacks.members, attacks.others))
    found = attack_tests(attacks.together(), m, FALSE_POSITIVE_RATES, seed)
    halves = _halves(attacks, m, seed)
    level = level_of(rules)
    # The interval holds for all attacks at once, so that the best of them may be shown.
    joint = 1 - (1 - rules.confidence) / len(names)
    best = names[found.best]
    measured = membership_rates(attacks.members[best], attacks.others[best], confidence=joint)
    area = measured.auc
    average = weigh(found.average, {**controls, "members against members": halves.average}, n, rules)
    played = control(attacks.members[best], seed, SPLITS, non_members=max(n, 1)).auc if m > 1 else np.array([0.5])
    band = (float(np.quantile(played, 0.025)), float(np.quantile(played, 0.975)))
    first = Finding(
        id=wording.ids[0],
        question=wording.questions[0],
        statistic=f"largest area under the ROC curve of {len(names)} attacks ({best}); interval for all at once",
        value=_known(area.value),
        ci=(area.low, area.high) if np.isfinite(area.low) else None,
        threshold=0.5,
        verdict=average.verdict,
        limits=f"{average.why}; "
        * bool(average.why)
        + f"p = {found.average:.2g} for {len(names)} attacks together, at most {level:.2g} needed to fail; random "
        f"halves of the members among themselves reach {band[0]:.2f} to {band[1]:.2f}; "
        f"{_least_words(m, n, level, len(names))}; the attacker is somebody {wording.means}, others may do better",
        criteria=CRITERIA,
    )
    few = weigh(found.few, {**controls, "members against members": halves.few}, n, rules)
    return Answer((first, _few(attacks, found, few, wording, rules)), (_plot(attacks, band, wording),))


def _few(attacks: Attacks, found: AttackTests, weighed: Weighed, wording: Wording, rules: AuditRules) -> Finding:
    names = list(attacks.members)
    attack, number = found.best_few
    name, rate = names[attack], FALSE_POSITIVE_RATES[number]
    joint = 1 - (1 - rules.confidence) / len(names)
    at = membership_rates(attacks.members[name], attacks.others[name], confidence=joint).at
    there, others = at[rate], len(attacks.others[name])
    usable = [f for f in FALSE_POSITIVE_RATES if at[f] is not None]
    told = ", ".join(f"{point.value:.0%} at {f:.0%}" for f in usable if (point := at[f]) is not None)
    none = f"{others} holdout patients are too few for a false alarm rate of {max(FALSE_POSITIVE_RATES):.0%}"
    return Finding(
        id=wording.ids[1],
        question=wording.questions[1],
        statistic=f"share of training patients recognised at {rate:.0%} false alarms ({name}), exact interval"
        if there
        else "share of training patients recognised at few false alarms",
        value=there.value if there else None,
        ci=(there.low, there.high) if there else None,
        threshold=rate if there else None,
        verdict=weighed.verdict,
        limits=f"{weighed.why}; " * bool(weighed.why)
        + (
            f"recognised: {told} false alarms; p = {found.few:.2g} for all attacks and rates together, at most "
            f"{level_of(rules):.2g} needed to fail; below {1 / (others + 1):.1%} false alarms nothing can be said with "
            f"{others} holdout patients"
            if usable
            else none
        ),
        criteria=CRITERIA,
    )


def _least_words(members: int, others: int, level: float, attacks: int) -> str:
    shares = [
        share
        for rate in FALSE_POSITIVE_RATES
        if (share := smallest_advantage(members, others, rate, confidence=1 - level / attacks)) is not None
    ]
    if not shares:
        return f"{members} members and {others} others are too few to show any leak"
    return f"a leak of fewer than {min(shares):.0%} of the training patients would probably not have shown"


def _halves(attacks: Attacks, members: int, seed: int) -> AttackTests:
    """Attack one random half of the members as if the other were strangers."""
    order = stream(seed, "audit", "membership", "halves").permutation(members)
    scores = np.stack([values[order] for values in attacks.members.values()])
    return attack_tests(scores, members - members // 2, FALSE_POSITIVE_RATES, seed)


def _blind(real: FloatMatrix) -> FloatMatrix:
    """Return (2, N) scores that know nothing of the generated scans: nearness to other real scans and to their mean."""
    between = cdist(real, real)
    np.fill_diagonal(between, np.inf)
    near = np.sort(between, axis=1)[:, : min(NEXT, len(real) - 1)].mean(1)
    return np.stack([-near, -np.linalg.norm(real - real.mean(0), axis=1)])


def _plot(attacks: Attacks, band: tuple[float, float], wording: Wording) -> Plot:
    curves = {name: (attacks.members[name], attacks.others[name]) for name in attacks.members}
    m, n = (len(next(iter(side.values()))) for side in (attacks.members, attacks.others))
    return Plot(
        wording.title,
        roc_plot(curves, band),
        f"ROC curves of {len(curves)} attacks on {m} training and {n} holdout patients, beside random halves of the "
        "training patients.",
        "Good: all curves within the grey band, where members are played against members. Bad: a curve above it, and "
        "worst at the left edge, where training patients are recognised without any false alarm.",
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
