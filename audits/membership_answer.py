"""From the scores of membership attacks to two findings: on average, and for a few.

Whatever the scores are made of, training patients (members) are compared with holdout patients (others). The p-values
are exact and corrected for the number of attacks (`permutation`); intervals hold for all attacks at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from anonsynth.audits.answer import Answer, level_of, weigh
from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.figures import Plot
from anonsynth.audits.finding import Finding
from anonsynth.audits.further_figures import roc_plot
from anonsynth.audits.membership_rates import (
    FALSE_POSITIVE_RATES,
    RateAt,
    control,
    membership_rates,
    smallest_advantage,
)
from anonsynth.audits.permutation import AttackTests, attack_tests
from anonsynth.audits.points import FloatMatrix
from anonsynth.policies.model import AuditRules
from anonsynth.seeds import stream

__all__ = ["Attacks", "Wording", "answer_membership", "rates_for", "smallest_recognised"]

SPLITS = 400
TRIALS = 400
POWER = 0.8
FEWEST = 5
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

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of members and of others."""
        return len(next(iter(self.members.values()))), len(next(iter(self.others.values())))

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
    m, n = attacks.sizes
    rates = rates_for(n)
    found = attack_tests(attacks.together(), m, rates, seed)
    halves = _halves(attacks, m, rates, seed)
    average, band = _on_average(
        attacks, found, {**controls, "members against members": halves.average}, wording, rules, seed
    )
    few = _of_a_few(attacks, found, {**controls, "members against members": halves.few}, wording, rules)
    plot = Plot(
        wording.title,
        roc_plot({name: (attacks.members[name], attacks.others[name]) for name in attacks.members}, band),
        f"ROC curves of {len(attacks.members)} attacks on {m} training and {n} holdout patients, beside random halves "
        "of the training patients.",
        "Good: all curves within the grey band, where members are played against members. Bad: a curve above it, and "
        "worst at the left edge, where training patients are recognised without any false alarm.",
    )
    return Answer((average, few), (plot,))


def rates_for(others: int) -> tuple[float, ...]:
    """Return the false positive rates that so many others can measure; the smallest possible one if it is larger.

    Example:
        >>> rates_for(26), rates_for(7)
        ((0.05, 0.1), (0.125,))
    """
    usable = tuple(rate for rate in FALSE_POSITIVE_RATES if rate * (others + 1) >= 1 - 1e-9)
    return usable or (1 / (others + 1),)


def smallest_recognised(members: int, others: int, level: float, seed: int = 0) -> float | None:
    """Return the smallest share of members, recognised outright, that the area under the curve would probably show.

    The share scores above everybody, the other members score like strangers. Shown means p <= level of the rank-sum
    test, probably means four times of five in `TRIALS` simulated cohorts. None if not even all of them would show.

    Example:
        >>> 0.3 < smallest_recognised(104, 26, 0.0003) < 0.7
        True
    """
    if min(members, others) < FEWEST:
        return None
    rng = stream(seed, "audit", "membership", "power")
    scores, chosen = rng.random((TRIALS, members + others)), rng.random((TRIALS, members))
    middle, spread = members * others / 2, np.sqrt(members * others * (members + others + 1) / 12)
    for share in np.arange(0.02, 1.001, 0.02):
        lifted = scores.copy()
        lifted[:, :members] += chosen < share
        wins = stats.rankdata(lifted, axis=1)[:, :members].sum(1) - members * (members + 1) / 2
        if float((stats.norm.sf((wins - middle) / spread) <= level).mean()) >= POWER:
            return float(share)
    return None


def _on_average(
    attacks: Attacks, found: AttackTests, controls: dict[str, float], wording: Wording, rules: AuditRules, seed: int
) -> tuple[Finding, tuple[float, float]]:
    names = list(attacks.members)
    m, n = attacks.sizes
    best, level = names[found.best], level_of(rules)
    area = membership_rates(attacks.members[best], attacks.others[best], confidence=_joint(attacks, rules)).auc
    least = smallest_recognised(m, n, level / len(names))
    weighed = weigh(found.average, controls, n, rules, shown=area.low > 0.5, seeable=least is not None)
    played = control(attacks.members[best], seed, SPLITS, non_members=max(n, 1)).auc if m > 1 else np.array([0.5])
    band = (float(np.quantile(played, 0.025)), float(np.quantile(played, 0.975)))
    finding = Finding(
        id=wording.ids[0],
        question=wording.questions[0],
        statistic=f"largest area under the ROC curve of {len(names)} attacks ({best}); interval for all at once",
        value=float(area.value) if np.isfinite(area.value) else None,
        ci=(area.low, area.high) if np.isfinite(area.low) else None,
        threshold=0.5,
        verdict=weighed.verdict,
        limits=f"{weighed.why}; "
        * bool(weighed.why)
        + f"p = {found.average:.2g} for {len(names)} attacks together, at most {level:.2g} needed to fail; random "
        f"halves of the members among themselves reach {band[0]:.2f} to {band[1]:.2f}; {_least_words(least, m, n)}; "
        f"the attacker is somebody {wording.means}, others may do better",
        criteria=CRITERIA,
    )
    return finding, band


def _of_a_few(
    attacks: Attacks, found: AttackTests, controls: dict[str, float], wording: Wording, rules: AuditRules
) -> Finding:
    names, (m, n) = list(attacks.members), attacks.sizes
    rates, level = rates_for(n), level_of(rules)
    attack, number = found.best_few
    name, rate = names[attack], rates[number]
    confidence = _joint(attacks, rules)
    at = membership_rates(
        attacks.members[name], attacks.others[name], false_positive_rates=rates, confidence=confidence
    ).at
    best = at[rate]
    strict = 1 - level / (len(names) * len(rates))
    shares = [s for f in rates if (s := smallest_advantage(m, n, f, confidence=strict)) is not None]
    least = min(shares, default=None)
    shown = best is not None and best.hits.low > rate
    weighed = weigh(found.few, controls, n, rules, shown=shown, seeable=least is not None)
    return Finding(
        id=wording.ids[1],
        question=wording.questions[1],
        statistic=f"share of training patients above the threshold for {rate:.3g} false alarms ({name}); exact",
        value=best.value if best and np.isfinite(best.value) else None,
        ci=(best.hits.low, best.hits.high) if best else None,
        threshold=rate,
        verdict=weighed.verdict,
        limits=f"{weighed.why}; "
        * bool(weighed.why)
        + f"recognised: {_told(at)}; p = {found.few:.2g} for {len(names)} attacks and {len(rates)} rates, at "
        f"most {level:.2g} needed to fail; {_bracket(best)}; {_least_words(least, m, n)}; below {1 / (n + 1):.1%} "
        f"false alarms nothing can be said with {n} holdout patients",
        criteria=CRITERIA,
    )


def _joint(attacks: Attacks, rules: AuditRules) -> float:
    """Return the confidence of one attack's interval at which those of all attacks hold at once."""
    return 1 - (1 - rules.confidence) / len(attacks.members)


def _told(at: Mapping[float, RateAt | None]) -> str:
    return ", ".join(f"{point.value:.0%} at {f:.0%} false alarms" for f, point in at.items() if point is not None)


def _bracket(point: RateAt | None) -> str:
    """Say how far the share may lie from what was seen if the threshold's own uncertainty counts."""
    if point is None:
        return "there is no threshold"
    return f"with the uncertainty of the threshold the share may be {point.low:.0%} to {point.high:.0%}"


def _least_words(least: float | None, members: int, others: int) -> str:
    if least is None:
        return f"{members} training and {others} holdout patients are too few to show any leak"
    return f"a leak of fewer than {least:.0%} of the training patients would probably not have shown"


def _halves(attacks: Attacks, members: int, rates: tuple[float, ...], seed: int) -> AttackTests:
    """Attack one random half of the members as if the other were strangers."""
    order = stream(seed, "audit", "membership", "halves").permutation(members)
    scores = np.stack([values[order] for values in attacks.members.values()])
    return attack_tests(scores, members - members // 2, rates, seed)
