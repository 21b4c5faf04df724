"""Are second scans of training patients linked to them, and nobody else to anybody?

    python benchmarks/second_scans.py SYNTHETIC --first DIR --second DIR --pairs 1023=1003,1024=1004 [--draws 100]
                                      [--trained 1000,1003,1004]

DIR holds `images/` and, if there are any, `labels/`; first and second scans are of the same people, one scan each. All
people are drawn anew as training and holdout, as often as --draws says; those with a second scan always train. Where
SYNTHETIC's generator was trained on some of them, name those with --trained: they are the training patients then, all
others are the holdout, and nothing is drawn. A draw of others would call patients unseen whom it has learned from.

In each draw every second scan, and every holdout patient in front of a null without him, is planted alone among the
generated scans. Linked is a second scan that is flagged at q = 0.05 with its own first scan as the nearest; a holdout
patient who is flagged is a false alarm: a pair of different people. How many of the generated scans themselves are
flagged is printed too: beside many that are, Benjamini-Hochberg flags weaker evidence.

Intervals are Clopper-Pearson's, 95 %; draws share people, so they are narrower than they should be.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonsynth.audits.calibration import exact_interval, q_values
from anonsynth.audits.closer import Aspect
from anonsynth.audits.crossed import Beside
from anonsynth.audits.index import build_index
from anonsynth.audits.loading import AuditSettings, find_sources, open_sides
from anonsynth.audits.nearest import Matches, cohort_queries, compare, restricted
from anonsynth.audits.nearness import usual_of
from anonsynth.audits.scoring import flagged_alone, make_null, score
from anonsynth.audits.views import ViewGrid
from anonsynth.cohort.model import Split
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress
from anonsynth.seeds import stream

LEVEL = 0.05
JUDGES = tuple(aspect for aspect in Aspect if aspect is not Aspect.REGION)


@dataclass(frozen=True, slots=True)
class Looked:
    """What everybody resembles among all first scans."""

    first: Mapping[str, Matches]
    second: Mapping[str, Matches]
    generated: tuple[Matches, ...]
    same: Mapping[str, str]
    names: Mapping[str, str]


def main() -> int:
    """Print how many are linked."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch, Progress() as progress:
        looked = _look(options, Path(scratch), progress)
    rng = stream(options.seed, "benchmark", "second scans")
    linked: dict[str, list[float]] = {name: [] for name in looked.second}
    right, alarms, others, flagged_generated = 0, 0, 0, []
    splits = [_drawn(looked, options.holdout, rng) for _ in range(options.draws)]
    if options.trained:
        training = [looked.names[name] for name in options.trained.split(",")]
        splits = [(training, sorted(set(looked.first) - set(training)))]
    for training, holdout in splits:
        for name, matches in looked.second.items():
            judged = _judge(matches, looked, training, holdout)
            linked[name].append(judged.p)
            right += judged.flagged and judged.nearest == looked.same[name]
        for name in holdout:
            rest = [other for other in holdout if other != name]
            judged = _judge(looked.first[name], looked, training, rest)
            alarms += judged.flagged
            others += 1
        flagged_generated.append(judged.generated)
    for name, values in linked.items():
        print(f"{name}: p-value median {np.median(values):.2g}, largest {np.max(values):.2g}")
    _row("second scans linked to the same person at q = 0.05", right, len(splits) * len(looked.second))
    _row("different people flagged at q = 0.05", alarms, others)
    _row("generated scans flagged at q = 0.05", sum(flagged_generated), len(splits) * len(looked.generated))
    return 0


def _drawn(looked: Looked, holdout: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Draw training and holdout; whoever has a second scan trains."""
    order = [str(name) for name in rng.permutation(sorted(set(looked.first) - set(looked.same.values())))]
    return [*looked.same.values(), *order[holdout:]], order[:holdout]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("synthetic", type=Path, help="folder of generated scans that are no copies")
    parser.add_argument("--first", type=Path, required=True)
    parser.add_argument("--second", type=Path, required=True)
    parser.add_argument("--pairs", required=True, help="names of second and first scan, as in 1023=1003,1024=1004")
    parser.add_argument("--holdout", type=int, default=6, help="holdout patients of each draw")
    parser.add_argument("--trained", help="names of the first scans that the generator was trained on; then no draws")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _look(options: argparse.Namespace, scratch: Path, progress: Progress) -> Looked:
    settings = AuditSettings(options.synthetic, scratch, train=options.first, holdout=options.second, seed=options.seed)
    sources = find_sources(settings, AuditRules())
    sides = open_sides(settings, sources, scratch, progress)
    reference = sides.reference
    values = {entry.value for side in (reference, sides.synthetic) for entry in side.info.labels}
    grid = ViewGrid(reference.grid.shape, reference.grid.spacing, tuple(sorted(values)))
    index = build_index(reference, reference.of(Split.TRAIN), grid, scratch / "index", progress)
    everybody = len(index.records)
    first = compare(cohort_queries(reference, index.records), index, progress, "first scans", patients=everybody)
    second = cohort_queries(reference, reference.of(Split.HOLDOUT))
    generated = cohort_queries(sides.synthetic, sides.synthetic.records)
    names = {scan.source.patient: scan.patient for scan in (*sources.train, *sources.holdout)}
    pairs = dict(pair.split("=") for pair in options.pairs.split(","))
    return Looked(
        {matches.patient: matches for matches in first},
        {m.patient: m for m in compare(second, index, progress, "second scans", patients=everybody)},
        compare(generated, index, progress, "generated scans", patients=everybody),
        {names[later]: names[earlier] for later, earlier in pairs.items()},
        names,
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A planted scan.

    Attributes:
        p: Its p-value.
        flagged: Whether it is flagged.
        nearest: The patient it is nearest to.
        generated: Generated scans that are flagged without it.
    """

    p: float
    flagged: bool
    nearest: str
    generated: int


def _judge(planted: Matches, looked: Looked, training: Sequence[str], holdout: Sequence[str]) -> Judged:
    among = set(training)
    null = make_null(
        [restricted(looked.first[name], among) for name in holdout],
        [restricted(looked.first[name], among) for name in training],
        Beside(
            tuple(restricted(matches, set(holdout)) for matches in looked.generated),
            tuple(restricted(looked.first[name], set(holdout)) for name in training),
        ),
    )
    generated = [restricted(matches, among) for matches in looked.generated]
    usual = usual_of(generated, beside=null.usual)
    own = restricted(planted, among)
    scores = score([own], null, usual)
    background = score(generated, null, usual).combined
    flagged = flagged_alone(scores.combined, background, LEVEL)
    strongest = min((a for a in JUDGES if own.found[a]), key=lambda aspect: np.nan_to_num(scores.p[aspect][0], nan=2.0))
    found = int((q_values(background) <= LEVEL).sum())
    return Judged(float(scores.combined[0]), bool(flagged[0]), own.found[strongest][0].patient, found)


def _row(what: str, found: int, of: int) -> None:
    bounds = exact_interval(found, of, 0.95)
    print(f"{what}: {found} of {of}, {found / max(of, 1):.3f} ({bounds.low:.3f} to {bounds.high:.3f})")


if __name__ == "__main__":
    raise SystemExit(main())
