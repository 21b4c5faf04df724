"""Do the generated scans as a whole lie nearer to the training patients than to patients nobody trained on?

Three answers, one verdict. `data-copying` is the three-sample test C_T (`data_copying`), which smoothness moves as
copying does; it fails a cohort only if two exchanges of the sides say so too. C_T with training and holdout in each
other's place must not be as negative, and training patients must stand out from the generated scans more than as many
holdout patients do: each generated scan gives its nearest of all patients the log ratio of the distances to the second
and to that nearest one, and who was trained on is permuted. A smooth generator is equally near to both sides and
passes. `authenticity` and `variety` describe: beside each number stands what unseen patients reach, and neither has a
verdict of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist, pdist

from anonsynth.audits.answer import Answer, level_of, weigh
from anonsynth.audits.authenticity import authenticity
from anonsynth.audits.blind import BLIND, blind_p
from anonsynth.audits.calibration import FloatVector
from anonsynth.audits.data_copying import DataCopying, data_copying
from anonsynth.audits.figures import Plot
from anonsynth.audits.finding import Finding, Verdict
from anonsynth.audits.further_figures import nearest_plot
from anonsynth.audits.manifold import compare_manifolds
from anonsynth.audits.permutation import owner_test
from anonsynth.audits.points import FloatMatrix
from anonsynth.audits.population import Population
from anonsynth.audits.rates import Rate
from anonsynth.policies.model import AuditRules
from anonsynth.seeds import stream

__all__ = ["set_level", "smallest_copied_share"]

IntVector = npt.NDArray[np.intp]

PER_CELL = 15
"""Holdout patients for each cell of the three-sample test."""
NEIGHBOUR = 5
POWER = 0.8
TRIALS = 60
PRECISION = 4
"""Permutations of a trial, in units of 1 / level."""
FEWEST = 5
CLOSEST = float(np.log(4))
"""A generated scan counts at most as if its patient were four times as near as the next."""
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


def set_level(population: Population, rules: AuditRules, seed: int) -> Answer:
    """Answer the questions about the generated scans as a whole."""
    points = population.points
    copying, plot = _copying(population, rules, seed)
    real = authenticity(points.generated, points.holdout, points.train, confidence=rules.confidence)
    return Answer((copying, _authentic(real.generated, real.holdout), _variety(population, rules, seed)), (plot,))


def _copying(population: Population, rules: AuditRules, seed: int) -> tuple[Finding, Plot]:
    points = population.points
    members, others = len(points.train), len(points.holdout)
    size = min(members, others)
    cells = max(1, size // PER_CELL)
    straight = data_copying(points.generated, points.train, points.holdout, cells=cells, seed=seed)
    swapped = data_copying(points.generated, points.holdout, points.train, cells=max(1, others // PER_CELL), seed=seed)
    real = np.concatenate([points.train, points.holdout])
    owner, nearer = _owners(cdist(points.generated, real))
    owned, disowned = owner_test(np.bincount(owner, nearer, len(real)).astype(np.float64), members, seed)
    level = level_of(rules)
    smooth = not straight.value < swapped.value
    least = smallest_copied_share(owner, nearer, members, others, level, seed)
    weighed = weigh(
        owned,
        {
            "generated scans nearer to the holdout than to those trained on": disowned,
            BLIND: blind_p(points.train, points.holdout, seed),
        },
        others,
        rules,
        shown=straight.p <= level and not smooth,
        seeable=least is not None and np.isfinite(straight.value),
    )
    share = float((owner < members).mean())
    expected = members / (members + others)
    limits = (
        f"{weighed.why}; "
        * bool(weighed.why)
        + f"C_T = {straight.value:.1f} (p = {straight.p:.2g}) beside {swapped.value:.1f} with the sides exchanged; a "
        f"training patient is nearest to {share:.0%} of the generated scans, {expected:.0%} expected; p = {owned:.2g} "
        f"of how much nearer; {_unseen(least)}{_uncovered(straight)}"
    )
    value = straight.value if np.isfinite(straight.value) else None
    finding = Finding(
        id="data-copying",
        question="Do the generated scans as a whole crowd around the training patients?",
        statistic="C_T, in standard deviations; below 0 generated scans lie nearer to training patients than others do",
        value=value,
        threshold=0.0,
        verdict=weighed.verdict,
        limits=limits,
        criteria=("singling out", "linkability"),
    )
    return finding, _plot(population, seed, share, expected)


def _owners(away: FloatMatrix) -> tuple[IntVector, FloatVector]:
    """Return of (G, N) distances the nearest patient of each generated scan, (G,), and how much nearer it is.

    The second is the log ratio of the distances to the second nearest and to the nearest patient, at most `CLOSEST`, so
    that one exact copy does not outweigh everything else.
    """
    order = np.argsort(away, axis=1)
    first, second = (np.take_along_axis(away, order[:, i : i + 1], 1)[:, 0] for i in (0, 1))
    tiny = np.finfo(np.float64).tiny
    ratio = np.log(np.maximum(second, tiny)) - np.log(np.maximum(first, tiny))
    return order[:, 0], np.clip(ratio, 0, CLOSEST)


def smallest_copied_share(
    owner: IntVector, nearer: FloatVector, members: int, others: int, level: float, seed: int
) -> float | None:
    """Return the smallest share of copied generated scans that the test of owners would probably have noticed.

    A share of the scans that were seen is given to random training patients, each twice as near to its patient as to
    anybody else. The smallest of `SHARES` is returned at which four of five such cohorts have p <= level, or None.
    """
    if min(members, others) < FEWEST:
        return None
    people = members + others
    rng = stream(seed, "audit", "set level", "power")
    labels = np.stack([rng.permutation(people) < members for _ in range(round(PRECISION / level))]).astype(np.float32)
    for share in SHARES:
        found = 0
        for _ in range(TRIALS):
            # What is not copied belongs to anybody: whose it really is may itself be a leak.
            anybody = rng.permutation(people)[owner]
            copied = rng.random(len(owner)) < share
            owners = np.where(copied, rng.integers(members, size=len(owner)), anybody)
            weight = np.bincount(owners, np.where(copied, np.log(2), nearer), people).astype(np.float32)
            found += (1 + (labels @ weight >= weight[:members].sum()).sum()) / (len(labels) + 1) <= level
        if found >= POWER * TRIALS:
            return share
    return None


def _unseen(least: float | None) -> str:
    if least is None:
        return "with so few patients no share of copied scans would have shown"
    return (
        f"copies twice as near to one training patient as to anybody else, among otherwise such scans as these, would "
        f"have shown from a share of about {least:.0%} on"
    )


def _uncovered(test: DataCopying) -> str:
    if not np.isfinite(test.value):
        return "; no cell of the three-sample test holds five scans of both kinds"
    return f"; {1 - test.share:.0%} of the holdout lie where too few scans were generated to compare" * (test.share < 1)


def _plot(population: Population, seed: int, share: float, expected: float) -> Plot:
    points = population.points
    size = min(len(points.train), len(points.holdout))
    rng = stream(seed, "audit", "set level", "plot")
    near = [
        cdist(points.generated, side[rng.permutation(len(side))[:size]]).min(1)
        for side in (points.train, points.holdout)
    ]
    scale = float(np.median(pdist(points.holdout))) or 1.0
    return Plot(
        "Nearer to training than to holdout patients?",
        nearest_plot(near[0], near[1], scale),
        f"Each generated scan by its distance to the nearest of {size} training and of {size} holdout patients; "
        f"training patients are the nearest of all to {share:.0%} of the scans, {expected:.0%} would be chance.",
        "Each dot is a generated scan. Good: as many dots above the dotted line as below. Bad: dots far below it, each "
        "much nearer to a training patient than to anybody who was not trained on. A cloud near 0 on both axes is a "
        "smooth generator, near to everybody.",
    )


def _authentic(generated: Rate, holdout: Rate) -> Finding:
    known = generated.of > 0
    return Finding(
        id="authenticity",
        question="How many generated scans are farther from their nearest patient than that patient is from others?",
        statistic="share of authentic generated scans; described, no verdict",
        value=generated.value if known else None,
        ci=(generated.interval.low, generated.interval.high) if known else None,
        verdict=Verdict.PASS,
        limits=f"{holdout.found} of {holdout.of} holdout patients are authentic ({_percent(holdout)}); a smooth "
        "generator has a low share without having copied anybody, so the number describes and decides nothing",
        criteria=("singling out",),
    )


def _variety(population: Population, rules: AuditRules, seed: int) -> Finding:
    points = population.points
    both = compare_manifolds(
        points.generated, points.holdout, points.train, k=NEIGHBOUR, confidence=rules.confidence, seed=seed
    )
    words = [
        f"{name} {_number(a)} beside {_number(b)}"
        for name, a, b in (
            ("precision", both.generated.precision.value, both.holdout.precision.value),
            ("recall", both.generated.recall.value, both.holdout.recall.value),
            ("density", both.generated.density.value, both.holdout.density.value),
            ("coverage", both.generated.coverage.value, both.holdout.coverage.value),
        )
    ]
    coverage = both.generated.coverage
    return Finding(
        id="variety",
        question="Do the generated scans look like patients, and have they the patients' variety?",
        statistic="coverage: share of training patients with a generated scan among their five nearest; no verdict",
        value=coverage.value if coverage.of else None,
        ci=(coverage.interval.low, coverage.interval.high) if coverage.of else None,
        verdict=Verdict.PASS,
        limits=f"{', '.join(words)} for holdout patients, with {both.drawn} scans of each; this is usefulness, not "
        "privacy: a copier is perfect in all four",
    )


def _percent(value: Rate) -> str:
    return f"{value.value:.0%}" if value.of else "unknown"


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "unknown"
