"""Can a patient be linked to the substitute cohort, inferred from it, or singled out by it?

The three questions of WP216 as attacks that succeed or fail, in the manner of Anonymeter (Giomi et al., PETS 2023,
arXiv 2211.10459), for scans in place of tables:

- linkage: the attacker has two pieces of a person, half of one scan and the other half of a second acquisition
  (`second_view`). The attack succeeds if both lie nearest to the same generated scan: then the substitute cohort ties
  two databases together.
- inference: the attacker has a second acquisition, finds the nearest generated scan, and reads off its label map in
  which third of the population a volume of the person lies. Succeeds if that is the right third.
- singling out: from the generated scans alone the attacker says "one person lies within this distance of this scan",
  half the distance to the next generated scan. Succeeds if that is true of exactly one patient.

Each is tried on training patients (attack), on holdout patients (control), and by guessing (baseline): a generated
scan at random for the first two, a scan whose features were shuffled among the generated ones for the third. What
counts is the residual risk, attack beyond control (`residual_risk`). Because its interval is a first-order one, the
verdict also needs an exact p-value: Fisher's for linkage and inference, where the people are the trials; permuted
patients for singling out, where many predicates share the people.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from scipy.spatial.distance import cdist

from anonsynth.audits.answer import Answer, level_of, weigh
from anonsynth.audits.blind import BLIND, blind_p
from anonsynth.audits.calibration import BoolVector, FloatVector
from anonsynth.audits.figures import Plot
from anonsynth.audits.finding import Finding, Verdict
from anonsynth.audits.further_figures import rates_plot
from anonsynth.audits.permutation import isolated_test
from anonsynth.audits.points import FloatMatrix
from anonsynth.audits.population import Part, Population, Views
from anonsynth.audits.residual_risk import Risk, Successes, residual_risk, success_rate
from anonsynth.policies.model import AuditRules
from anonsynth.seeds import stream

__all__ = ["Trial", "infer", "link", "linkage", "smallest_linked_share"]

FEWEST = 5
MOST_LABELS = 4
POWER = 0.8
RADIUS = 0.5
"""Of a predicate, as a share of the distance to the next generated scan."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Which attacks succeeded: (P,) against training patients, (H,) holdout patients, (P,) by guessing."""

    attack: BoolVector
    control: BoolVector
    guess: BoolVector

    def successes(self) -> tuple[Successes, Successes, Successes]:
        """Count attack, control, guessing."""
        attack, control, guess = (Successes(int(s.sum()), s.size) for s in (self.attack, self.control, self.guess))
        return attack, control, guess

    def p(self) -> float:
        """Return Fisher's one-sided p-value of training patients being hit more often than holdout patients."""
        return _fisher(self.attack, self.control)

    def halves(self, seed: int) -> float:
        """Return the same for two random halves of the training patients: the negative control."""
        order = stream(seed, "audit", "linkage", "halves").permutation(self.attack.size)
        half = self.attack.size // 2
        return _fisher(self.attack[order[:half]], self.attack[order[half:]])


def linkage(population: Population, rules: AuditRules, seed: int) -> Answer:
    """Try to link, to infer and to single out."""
    views = population.views
    blind = blind_p(population.points.train, population.points.holdout, seed)
    linked = link(views, seed)
    attributes = {
        name: trial
        for name, values in _attributes(views).items()
        if (trial := infer(views.whole, values, stream(seed, "audit", "inference", name))) is not None
    }
    single, isolated = _singling_out(population, rules, seed, blind)
    rows = {"linkage": _rates(*linked.successes(), rules)}
    findings = [_linked(linked, rules, seed, blind)]
    if attributes:
        worst = min(attributes, key=lambda name: attributes[name].p())
        findings.append(_inferred(worst, attributes[worst], len(attributes), rules, seed, blind))
        rows[f"inference: {worst}"] = _rates(*attributes[worst].successes(), rules)
    else:
        findings.append(_nothing_to_infer(views, rules))
    findings.append(single)
    rows["singling out"] = _rates(*isolated, rules)
    plot = Plot(
        "Linkage, inference, singling out",
        rates_plot(rows),
        "; ".join(
            f"{name}: {attack[0]:.0%} against training patients, {control[0]:.0%} against holdout patients, "
            f"{guess[0]:.0%} by guessing"
            for name, (attack, control, guess) in rows.items()
        ),
        "Each row is an attack. Good: training patients (dot) are hit no more often than holdout patients (square). "
        "Bad: the dot's interval lies to the right of the square's. Where both are no better than guessing (cross) the "
        "attack was too weak to show anything.",
    )
    return Answer(tuple(findings), (plot,))


def link(views: Views, seed: int) -> Trial:
    """Try to link the two pieces of every person through the substitute cohort."""
    hits = [
        _nearest(first, views.first.generated) == _nearest(second, views.second.generated)
        for first, second in ((views.first.train, views.second.train), (views.first.holdout, views.second.holdout))
    ]
    drawn = stream(seed, "audit", "linkage", "guess").integers(len(views.first.generated), size=len(hits[0]))
    return Trial(hits[0], hits[1], _nearest(views.first.train, views.first.generated) == drawn)


def infer(points: Part, values: tuple[FloatVector, FloatVector, FloatVector], rng: np.random.Generator) -> Trial | None:
    """Try to infer in which third of the population a person's value lies.

    Args:
        points: What the attacker holds of the people, and the generated scans.
        values: (P,), (H,), (G,) of training patients, holdout patients and generated scans; NaN where unknown.
        rng: Draws the scans that guessing takes.

    Returns:
        None where fewer than five people of a side have a value, or the thirds are not apart.
    """
    train, holdout, generated = values
    real = np.concatenate([train, holdout])
    known = np.isfinite(generated)
    if min(np.isfinite(train).sum(), np.isfinite(holdout).sum(), known.sum()) < FEWEST:
        return None
    cuts = np.nanquantile(real, [1 / 3, 2 / 3])
    if cuts[0] >= cuts[1] or np.isnan(cuts).any():
        return None
    third = np.searchsorted(cuts, generated[known], side="right")
    hits = []
    for side, own in ((points.train, train), (points.holdout, holdout)):
        there = np.isfinite(own)
        hits.append(
            third[_nearest(side[there], points.generated[known])] == np.searchsorted(cuts, own[there], side="right")
        )
    thirds = np.searchsorted(cuts, train[np.isfinite(train)], side="right")
    return Trial(hits[0], hits[1], third[rng.integers(len(third), size=len(thirds))] == thirds)


def smallest_linked_share(attacked: int, control: Successes, level: float) -> float | None:
    """Return the smallest share of training patients, hit outright, that would probably have shown.

    The others are hit as often as the control was. Shown means Fisher's p <= level, probably means four times of five;
    exact binomial. None if not even all of them would have shown.

    Example:
        >>> round(smallest_linked_share(100, Successes(1, 25), 0.001), 2)
        0.36
    """
    if min(attacked, control.of) < FEWEST:
        return None
    table = partial(_fisher_counts, of=attacked, other=control.found, other_of=control.of)
    enough = next((found for found in range(attacked + 1) if table(found) <= level), None)
    if enough is None:
        return None
    base = control.found / control.of

    def missing(share: float) -> float:
        return float(stats.binom.sf(enough - 1, attacked, share + (1 - share) * base)) - POWER

    return float(optimize.brentq(missing, 0.0, 1.0)) if missing(0.0) < 0 else 0.0


def _linked(trial: Trial, rules: AuditRules, seed: int, blind: float) -> Finding:
    return _finding(
        "linkage",
        "Does the substitute cohort tie two pieces of one patient's data together?",
        "residual risk of linking half a scan with the other half of a second acquisition",
        trial,
        1,
        rules,
        seed,
        blind,
        ("linkability",),
        "second acquisitions are simulated: same anatomy, other contrast, bias field, place and noise",
    )


def _inferred(name: str, trial: Trial, attributes: int, rules: AuditRules, seed: int, blind: float) -> Finding:
    return _finding(
        "inference",
        "Does the substitute cohort betray a volume of a patient's label map?",
        f"residual risk of guessing the right third of the volume of {name}, the worst of {attributes}",
        trial,
        attributes,
        rules,
        seed,
        blind,
        ("inference",),
        "volumes of labels are inferred, by the nearest generated scan alone; no other attribute is known here",
    )


def _nothing_to_infer(views: Views, rules: AuditRules) -> Finding:
    known = [int(np.isfinite(side).any(1).sum()) for side in (views.volumes.train, views.volumes.holdout)]
    released = bool(np.isfinite(views.volumes.generated).any())
    too_few = released and 0 < min(known) < max(FEWEST, rules.min_holdout_patients)
    return Finding(
        id="inference",
        question="Does the substitute cohort betray a volume of a patient's label map?",
        statistic="residual risk of guessing the right third of a volume",
        value=None,
        threshold=0.0,
        verdict=Verdict.INCONCLUSIVE if too_few else Verdict.PASS,
        limits=f"{known[0]} training and {known[1]} holdout patients have a label map, too few to try"
        if too_few
        else "generated scans or patients have no label maps whose volumes differ, so that there is nothing to infer",
        criteria=("inference",),
    )


def _finding(
    name: str,
    question: str,
    statistic: str,
    trial: Trial,
    tried: int,
    rules: AuditRules,
    seed: int,
    blind: float,
    criteria: tuple[str, ...],
    caveat: str,
) -> Finding:
    attack, control, guess = trial.successes()
    level = level_of(rules)
    risk = residual_risk(attack, control, guess, rules.confidence)
    strict = residual_risk(attack, control, guess, 1 - 2 * level / tried)
    p = min(1.0, trial.p() * tried)
    least = smallest_linked_share(attack.of, control, level / tried)
    weighed = weigh(
        p,
        {"training patients against training patients": trial.halves(seed), BLIND: blind},
        control.of,
        rules,
        shown=strict.low > 0,
        seeable=least is not None,
    )
    return Finding(
        id=name,
        question=question,
        statistic=statistic,
        value=risk.value if np.isfinite(risk.value) else None,
        ci=(risk.low, risk.high),
        threshold=0.0,
        verdict=weighed.verdict,
        limits=f"{weighed.why}; " * bool(weighed.why)
        + _counted(risk, attack, control, guess, p)
        + "; "
        + (
            f"a leak of fewer than {least:.0%} of the training patients would probably not have shown"
            if least is not None
            else "with so few patients, or so lucky a control, no leak would have shown"
        )
        + f"; {caveat}",
        criteria=criteria,
    )


def _counted(risk: Risk, attack: Successes, control: Successes, guess: Successes, p: float) -> str:
    return (
        f"succeeded against {attack.found} of {attack.of} training patients, {control.found} of {control.of} holdout "
        f"patients, {guess.found} of {guess.of} times by guessing, p = {p:.2g}"
        + ("" if risk.trusted else f"; {risk.why}")
    )


def _singling_out(
    population: Population, rules: AuditRules, seed: int, blind: float
) -> tuple[Finding, tuple[Successes, Successes, Successes]]:
    points = population.points
    made, members = points.generated, len(points.train)
    real = np.concatenate([points.train, points.holdout])
    between = cdist(made, made)
    np.fill_diagonal(between, np.inf)
    radius = RADIUS * between.min(1, initial=np.inf)
    isolated, outside, p = isolated_test(cdist(made, real) <= radius[:, None], members, seed)
    rng = stream(seed, "audit", "singling out", "guess")
    guessed, _, _ = isolated_test(cdist(rng.permuted(made, axis=0), real) <= radius[:, None], members, seed)
    half = rng.permutation(members)
    _, _, calm = isolated_test(cdist(made, points.train[half]) <= radius[:, None], members - members // 2, seed)
    total = len(made)
    attack, control, guess = (
        Successes(min(total, round(float(value))), total) for value in (isolated.mean(), outside, guessed.mean())
    )
    weighed = weigh(
        p,
        {"training patients against training patients": calm, BLIND: blind},
        len(points.holdout),
        rules,
        shown=attack.found > control.found,
    )
    risk = residual_risk(attack, control, guess, rules.confidence)
    size = min(members, len(points.holdout))
    finding = Finding(
        id="singling-out",
        question="Can predicates made from the generated scans alone be true of exactly one training patient?",
        statistic="residual risk of a predicate isolating one patient; the interval takes predicates as independent",
        value=risk.value if np.isfinite(risk.value) else None,
        ci=(risk.low, risk.high),
        threshold=0.0,
        verdict=weighed.verdict,
        limits=f"{weighed.why}; "
        * bool(weighed.why)
        + f"of {total} predicates {attack.found} isolate one of {size} training patients, {control.found} one of "
        f"{size} holdout patients, {guess.found} with shuffled features, p = {p:.2g}"
        + ("" if risk.trusted else f"; {risk.why}")
        + "; only balls around generated scans are tried as predicates",
        criteria=("singling out",),
    )
    return finding, (attack, control, guess)


def _attributes(views: Views) -> dict[str, tuple[FloatVector, FloatVector, FloatVector]]:
    """Return the largest labels' volumes of each side; together as one more where there are several."""
    sides = (views.volumes.train, views.volumes.holdout, views.volumes.generated)
    if not views.labels:
        return {}
    mean = np.nan_to_num(np.concatenate(sides[:2]), nan=0.0).mean(0)
    largest = np.argsort(-mean, kind="stable")[:MOST_LABELS]
    values = {views.labels[i]: (sides[0][:, i], sides[1][:, i], sides[2][:, i]) for i in largest if mean[i] > 0}
    if len(values) > 1:
        train, holdout, generated = (side.sum(1) for side in sides)
        values["all labels"] = (train, holdout, generated)
    return values


def _rates(
    attack: Successes, control: Successes, guess: Successes, rules: AuditRules
) -> tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]:
    def one(successes: Successes) -> tuple[float, float, float]:
        rate = success_rate(successes, rules.confidence)
        return (successes.found / max(successes.of, 1), rate.low, rate.high)

    return one(attack), one(control), one(guess)


def _nearest(points: FloatMatrix, records: FloatMatrix) -> npt.NDArray[np.intp]:
    nearest: npt.NDArray[np.intp] = cdist(points, records).argmin(1)
    return nearest


def _fisher(one: BoolVector, other: BoolVector) -> float:
    if min(one.size, other.size) < FEWEST:
        return nan
    return _fisher_counts(int(one.sum()), of=one.size, other=int(other.sum()), other_of=other.size)


def _fisher_counts(found: int, *, of: int, other: int, other_of: int) -> float:
    table = np.array([[found, of - found], [other, other_of - other]])
    return float(stats.fisher_exact(table, alternative="greater").pvalue)
