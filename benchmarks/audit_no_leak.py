"""How often the audit fails a cohort that leaks nothing, and whether its p-values are uniform.

    python benchmarks/audit_no_leak.py --cohort COHORT [--draws 200] [--plot FILE.png] [--seed 0]

Patients are drawn anew as training (three fifths), holdout (a fifth) and "generated" (a fifth: one scan of each), as
often as --draws says. Nobody can have been copied, so that every `fail` is a false one. Printed are

1. how often a scan is flagged at q = 0.05, how often each further question fails, and how often anything does;
2. the share of p-values at or below some levels, and whether they are uniform. Ranks among n null values are steps of
   1/(n + 1), and uniform only on those; for the tests each is spread evenly over its step (smoothed conformal p-values:
   Vovk et al. 2005, Algorithmic Learning in a Random World, §2.3). The p-values of a draw share its null. The first
   test takes all of them, and judges the greatest distance to uniform by a bootstrap over draws; the second, of
   Kolmogorov and Smirnov, takes one of each draw, and is repeated, since much depends on which;
3. with --plot, the p-values in order, as they are, beside those of a uniform distribution.

Where generated scans stand out beside the holdout more than real ones do, the audit counts the larger of two p-values;
elsewhere the holdout alone is its null. Real scans passed off as generated do not, up to chance. The p-values are
printed as the audit has them, with the share of draws in which both nulls counted, and by the holdout alone.

What is left out: the network's aspect, which would have to learn anew in every draw. The scans are laid on the mean of
everybody, not of the draw's training patients alone. Everybody is compared with everybody once; of a draw's patients
those are kept that an audit would have compared. Intervals are Clopper-Pearson's, 95 %; draws share patients, so that
the true ones are wider.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

from anonsynth.audits.calibration import exact_interval, q_values
from anonsynth.audits.closer import SPARE, Aspect
from anonsynth.audits.crossed import Beside
from anonsynth.audits.finding import Verdict
from anonsynth.audits.index import Index, build_index
from anonsynth.audits.linkage import linkage
from anonsynth.audits.membership import membership
from anonsynth.audits.nearest import CANDIDATES, Match, Matches, Query, cohort_queries, compare, restricted
from anonsynth.audits.nearness import usual_of
from anonsynth.audits.population import (
    Acquired,
    Named,
    Population,
    Reader,
    Side,
    assembled,
    common_modalities,
    read_patients,
)
from anonsynth.audits.scoring import make_null, one_scan_per_patient, score
from anonsynth.audits.set_level import set_level
from anonsynth.audits.views import ViewGrid
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress
from anonsynth.seeds import stream

LEVEL = 0.05
SHARES = (0.6, 0.2)
LABELLED = CANDIDATES + SPARE
"""Label maps that are laid on a query precisely; of images, those with the nearest intensities and edges are kept."""
BOOTSTRAP, PICKS = 2000, 500
AMONG = 120
"""Training patients who are also seen in a second acquisition, as in an audit."""
FloatVector = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PValues:
    """P-values of a draw.

    Attributes:
        p: (N,) as the audit has them.
        step: 1/(n + 1) for n holdout patients.
        odd: Whether generated scans counted as odd, so that both nulls counted.
    """

    p: FloatVector
    step: float
    odd: bool

    def spread(self, rng: np.random.Generator) -> FloatVector:
        """Return them with each rank spread over its step; beyond all null values they are no ranks."""
        return np.where(self.p > self.step * (1 + 1e-9), self.p - self.step * rng.random(len(self.p)), self.p)


@dataclass(frozen=True, slots=True)
class People:
    """One scan of everybody: what it resembles, and what the further questions need of it.

    Attributes:
        matches: What each of the n scans resembles.
        complete: (n,) who has the modalities that the further questions compare.
        reader: Makes rows.
        acquired: Rows of all n.
        named: Modalities and labels.
    """

    matches: tuple[Matches, ...]
    complete: npt.NDArray[np.bool_]
    reader: Reader
    acquired: Acquired
    named: Named

    def some(self, numbers: Positions) -> Acquired:
        """Return both acquisitions of some of them."""
        own = self.acquired
        return Acquired(own.rows[numbers], own.again[numbers], own.volumes[numbers])

    def side(self, numbers: Positions) -> Side:
        """Return some of them as a side."""
        return Side(tuple(self.matches[i].patient for i in numbers), self.acquired.rows[numbers])


def main() -> int:
    """Draw, judge, and print."""
    options = _options()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, Progress() as progress:
        cohort = open_cohort(options.cohort)
        grid = ViewGrid(cohort.grid.shape, cohort.grid.spacing, tuple(sorted(e.value for e in cohort.info.labels)))
        index = build_index(cohort, cohort.records, grid, Path(scratch) / "index", progress)
        everyone = one_scan_per_patient(cohort_queries(cohort, cohort.records), options.seed, "draws")
        people = _people(cohort, index, everyone, options.seed, progress)
        rng = stream(options.seed, "benchmark", "draws")
        counts: Counter[str] = Counter()
        p_values, of_holdout = [], []
        for draw in progress.track(range(options.draws), total=options.draws, what="draws"):
            parts = np.split(rng.permutation(len(everyone)), np.cumsum([round(s * len(everyone)) for s in SHARES]))
            train, holdout, made = (np.sort(part) for part in parts)
            both, first = _copies(people.matches, train, holdout, made)
            p_values.append(both)
            of_holdout.append(first)
            failed = {"copies"} if (q_values(both.p) <= LEVEL).any() else set()
            failed |= _further(_population(people, train, holdout, made, draw), draw)
            counts.update(failed | ({"anything"} if failed else set()))
    _print_failures(counts, len(p_values))
    for name, values in (("as the audit", p_values), ("the holdout alone", of_holdout)):
        _print_p_values(name, values)
    if options.plot:
        _plot(*(np.concatenate([draw.p for draw in values]) for values in (p_values, of_holdout)), options.plot)
    print(f"{time.perf_counter() - start:.0f} s for all of it")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--plot", type=Path, help="PNG of the p-values beside uniform ones")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _people(cohort: Cohort, index: Index, everyone: Sequence[Query], seed: int, progress: Progress) -> People:
    matches = compare(everyone, index, progress, "all against all", patients=len(everyone))
    records = {record.scan: record for record in cohort.records}
    names, (kept,) = common_modalities(cohort.info.modalities, [[records[query.scan] for query in everyone]])
    complete = np.isin([query.scan for query in everyone], [record.scan for record in kept])
    reader = Reader(index, tuple(cohort.info.modalities.index(name) for name in names), seed)
    labels = cohort.info.labels
    acquired = read_patients(reader, everyone, [entry.value for entry in labels], progress, "points")
    return People(matches, complete, reader, acquired, Named(names, tuple(entry.name for entry in labels)))


def _copies(
    looked: Sequence[Matches], train: Positions, holdout: Positions, made: Positions
) -> tuple[PValues, PValues]:
    """Return the p-values of the "generated" scans: as an audit has them, and by the holdout alone."""
    among, hidden = ({looked[i].patient for i in side} for side in (train, holdout))
    own = {i: _looked_up(looked[i], among) for i in (*train, *holdout, *made)}
    real, training, generated = ([own[i] for i in side] for side in (holdout, train, made))
    beside = Beside(*(tuple(_looked_up(looked[i], hidden) for i in side) for side in (made, train)))
    both = make_null(real, training, beside)
    first = make_null(real, training)
    usual = usual_of(generated, beside=both.usual)
    step = 1 / (int(np.isfinite(first.evidence(first.values)).sum()) + 1)
    by_both, by_first = (score(generated, null, usual).combined for null in (both, first))
    return PValues(by_both, step, both.odd), PValues(by_first, step, odd=False)


def _looked_up(matches: Matches, among: Collection[str]) -> Matches:
    """Return what an audit whose patients are only these would have compared the scan with.

    It compares closely as many as `CANDIDATES`, those with the nearest intensities and edges together. Were all kept,
    a scan would be compared with three times as many training as holdout patients, which no audit does.
    """
    known = restricted(matches, among)
    edges = {match.patient: match.distance for match in known.found[Aspect.EDGES]}
    nearness = {m.patient: m.distance * edges.get(m.patient, 2.0) for m in known.found[Aspect.INTENSITY]}
    kept = set(sorted(nearness, key=nearness.__getitem__)[:CANDIDATES])
    found: dict[Aspect, tuple[Match, ...]] = {
        aspect: own[:LABELLED] if aspect is Aspect.LABEL else tuple(m for m in own if m.patient in kept)
        for aspect, own in known.found.items()
        if aspect is not Aspect.REGION
    }
    found[Aspect.REGION] = known.found[Aspect.REGION]
    order = np.argsort(known.regions.distance, axis=1, kind="stable")[:, : CANDIDATES + 1]
    regions = replace(
        known.regions,
        distance=np.take_along_axis(known.regions.distance, order, 1),
        patient=np.take_along_axis(known.regions.patient, order, 1),
    )
    return replace(known, found=found, regions=regions)


def _population(people: People, train: Positions, holdout: Positions, made: Positions, draw: int) -> Population:
    train, holdout, made = (side[people.complete[side]] for side in (train, holdout, made))
    scans = people.some(made)
    drawn = stream(draw, "benchmark", "acquired").permutation(train)[:AMONG]
    return assembled(
        people.reader,
        people.side(train),
        people.side(holdout),
        (people.some(np.sort(drawn)), people.some(holdout)),
        ((row[None], volumes.tolist()) for row, volumes in zip(scans.rows, scans.volumes, strict=True)),
        people.named,
        left_out=0,
    )


def _further(population: Population, seed: int) -> set[str]:
    rules = AuditRules()
    answers = [finding for ask in (set_level, membership, linkage) for finding in ask(population, rules, seed).findings]
    return {finding.id for finding in answers if finding.verdict is Verdict.FAIL}


def _print_failures(counts: Counter[str], draws: int) -> None:
    print("draws without a leak that fail by\tdraws\trate\tinterval")
    for name in sorted(counts.keys() | {"copies", "anything"}):
        bounds = exact_interval(counts[name], draws, 0.95)
        print(f"{name}\t{draws}\t{counts[name] / draws:.3f}\t{bounds.low:.3f} to {bounds.high:.3f}")


def _print_p_values(name: str, draws: Sequence[PValues]) -> None:
    p = np.concatenate([draw.p for draw in draws])
    shares = ", ".join(f"{np.mean(p <= level):.4f} at {level:g}" for level in (0.5, 0.2, 0.1, 0.05, 0.01, 0.001))
    print(f"{name}: share of p-values at or below a level\t{len(p)}\t{shares}")
    odd = sum(draw.odd for draw in draws)
    print(f"{name}: draws in which both nulls counted\t{len(draws)}\t{odd / len(draws):.3f}")
    rng = np.random.default_rng(0)
    low, high = _over_draws([draw.p for draw in draws], 0.01, rng)
    print(f"{name}: share at or below 0.01, 95 % bootstrap over draws\t{len(draws)}\t{low:.4f} to {high:.4f}")
    spread = [draw.spread(rng) for draw in draws]
    print(f"{name}: all of them, distance to uniform\t{len(p)}\t{_distances(spread, rng)}")
    tests = [stats.kstest([rng.choice(draw) for draw in spread], "uniform").pvalue for _ in range(PICKS)]
    rejected = np.mean(np.array(tests) <= LEVEL)
    print(f"{name}: one of each draw, picks that are not uniform at {LEVEL:g}\t{PICKS}\t{rejected:.3f}")


def _over_draws(p_values: Sequence[FloatVector], level: float, rng: np.random.Generator) -> tuple[float, float]:
    rates = np.array([np.mean(p <= level) for p in p_values])
    means = rates[rng.integers(len(rates), size=(BOOTSTRAP, len(rates)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _distances(spread: Sequence[FloatVector], rng: np.random.Generator) -> str:
    """Say how far the share at or below a level lies from the level, and how often chance takes it farther."""
    levels = np.linspace(0, 1, 1001)
    shares = np.stack([np.mean(draw[None] <= levels[:, None], axis=1) for draw in spread])
    mean = shares.mean(0)
    chance = np.stack([shares[rng.integers(len(shares), size=len(shares))].mean(0) - mean for _ in range(BOOTSTRAP)])
    above, below = mean - levels, levels - mean
    small = np.mean(chance.max(1) >= above.max())
    either = np.mean(np.abs(chance).max(1) >= np.abs(above).max())
    return (
        f"too small by {above.max():.4f}, p = {small:.3f}; "
        f"too large by {below.max():.4f} at {levels[below.argmax()]:.2f}; not uniform, p = {either:.3f}"
    )


def _plot(both: FloatVector, first: FloatVector, path: Path) -> None:
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    uniform = (np.arange(len(both)) + 0.5) / len(both)
    axes.plot([1 / len(both), 1], [1 / len(both), 1], color="#6b6b6b", label="uniform")
    axes.plot(uniform, np.sort(first), ".", markersize=3, color="#d55e00", label="by the holdout alone")
    axes.plot(uniform, np.sort(both), ".", markersize=3, color="#0072b2", label="as the audit")
    axes.set(xscale="log", yscale="log", xlabel="uniform distribution", ylabel="p-value of a scan that copies nobody")
    axes.legend(title="below the line: too small")
    FigureCanvasAgg(figure).print_png(path)


if __name__ == "__main__":
    raise SystemExit(main())
