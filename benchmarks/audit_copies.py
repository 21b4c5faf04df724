"""Plant exact training copies among generated scans: how many are flagged, and how many others.

    python benchmarks/audit_copies.py SYNTHETIC --cohort COHORT [--copies 10] [--generated 50] [--seeds 20]

Each seed draws which training scans are planted, which generated scans they are planted among, and which scan of each
holdout patient makes the null; every seed is also run with nothing planted. What is flagged is what the p-values flag:
the check for identical voxels is left out, as it would find exact copies by itself. Intervals are Clopper-Pearson's.

Exit status: 0 if every seed met "all copies flagged, at most one other, none without copies", 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonsynth.audits.calibration import exact_interval, q_values
from anonsynth.audits.index import build_index
from anonsynth.audits.loading import AuditSettings, find_sources, open_sides
from anonsynth.audits.nearest import Matches, cohort_queries, compare
from anonsynth.audits.nearness import usual_of
from anonsynth.audits.scoring import make_null, one_scan_per_patient, score
from anonsynth.audits.views import ViewGrid
from anonsynth.cohort.model import Split
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress
from anonsynth.seeds import stream


@dataclass(frozen=True, slots=True)
class Looked:
    """What every scan resembles, looked up once for all seeds."""

    generated: tuple[Matches, ...]
    training: tuple[Matches, ...]
    holdout: tuple[Matches, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed gave."""

    copies: int
    others: int
    without: int


def main() -> int:
    """Run the seeds and print the table."""
    options = _options()
    rules = AuditRules(q=options.q)
    start = time.perf_counter()
    looked = _look(options.synthetic, options.cohort, rules)
    outcomes = [_plant(looked, seed, options.copies, options.generated, rules.q) for seed in range(options.seeds)]
    generated = min(options.generated, len(looked.generated))
    print("seed\tcopies flagged\tothers flagged\tflagged with none planted")
    for seed, outcome in enumerate(outcomes):
        print(f"{seed}\t{outcome.copies}/{options.copies}\t{outcome.others}/{generated}\t{outcome.without}/{generated}")
    _total("copies flagged", sum(o.copies for o in outcomes), options.copies * options.seeds)
    _total("others flagged", sum(o.others for o in outcomes), generated * options.seeds)
    _total("runs with a flag, none planted", sum(o.without > 0 for o in outcomes), options.seeds)
    print(f"{time.perf_counter() - start:.0f} s for all of it")
    met = all(o.copies == options.copies and o.others <= 1 and o.without == 0 for o in outcomes)
    return 0 if met else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("synthetic", type=Path, help="folder of generated scans that are no copies")
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--generated", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--q", type=float, default=0.05)
    return parser.parse_args()


def _look(synthetic: Path, cohort: Path, rules: AuditRules) -> Looked:
    with tempfile.TemporaryDirectory() as scratch, Progress() as progress:
        settings = AuditSettings(synthetic, Path(scratch), cohort=cohort)
        sides = open_sides(settings, find_sources(settings, rules), Path(scratch), progress)
        values = {entry.value for side in (sides.reference, sides.synthetic) for entry in side.info.labels}
        grid = ViewGrid(sides.reference.grid.shape, sides.reference.grid.spacing, tuple(sorted(values)))
        index = build_index(sides.reference, sides.reference.of(Split.TRAIN), grid, Path(scratch) / "index", progress)
        holdout = cohort_queries(sides.reference, sides.reference.of(Split.HOLDOUT))
        return Looked(
            compare(cohort_queries(sides.synthetic, sides.synthetic.records), index, progress, "generated scans"),
            compare(cohort_queries(sides.reference, index.records), index, progress, "training scans"),
            compare(holdout, index, progress, "holdout scans"),
        )


def _plant(looked: Looked, seed: int, copies: int, generated: int, q: float) -> Outcome:
    rng = stream(seed, "benchmark", "plant")
    planted = [looked.training[i] for i in rng.choice(len(looked.training), copies, replace=False)]
    count = min(generated, len(looked.generated))
    others = [looked.generated[i] for i in rng.choice(len(looked.generated), count, replace=False)]
    training = one_scan_per_patient(looked.training, seed, "controls")
    null = make_null(one_scan_per_patient(looked.holdout, seed, "holdout"), training)
    both = q_values(score([*planted, *others], null, usual_of([*planted, *others], beside=null.usual)).combined) <= q
    alone = q_values(score(others, null, usual_of(others, beside=null.usual)).combined) <= q
    return Outcome(int(both[:copies].sum()), int(both[copies:].sum()), int(np.sum(alone)))


def _total(what: str, found: int, of: int) -> None:
    bounds = exact_interval(found, of, 0.95)
    print(f"{what}: {found}/{of} = {found / of:.3f}, 95 % interval {bounds.low:.3f} to {bounds.high:.3f}")


if __name__ == "__main__":
    sys.exit(main())
