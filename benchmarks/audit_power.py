"""How likely the audit would see a copy of each kind, next to simpler ways of looking, and how often it cries wolf.

    python benchmarks/audit_power.py SYNTHETIC --cohort COHORT [--copies 40] [--curves 10] [--seed 0]
    python benchmarks/audit_power.py SYNTHETIC --train FOLDER --holdout FOLDER ...

1. Power: copies of training scans of every kind are planted in front of generated scans, one a patient; the share with
   p ≤ 0.01 is the true positive rate there. The same for the nearest neighbour by voxels, by structural similarity (of
   the twenty nearest by voxels) and by the distance to the closest record over that to the second closest; all of them
   calibrated on the same holdout by the same tail, which left-out training patients help to fit, and all on whole
   images. They do not look at label maps.
2. False alarms: holdout and left-out training patients with p ≤ 0.01, each judged by a null without it.

How often cohorts without a leak fail is for `audit_no_leak.py`. Intervals are Clopper-Pearson's, 95 %.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from anonsynth.audits.calibration import calibrate, exact_interval
from anonsynth.audits.controls import plant
from anonsynth.audits.crossed import beside_holdout
from anonsynth.audits.embedding import learn
from anonsynth.audits.index import Index, build_index
from anonsynth.audits.loading import AuditSettings, Sides, find_sources, open_sides
from anonsynth.audits.nearest import Matches, cohort_queries, compare
from anonsynth.audits.nearness import usual_of
from anonsynth.audits.planted import KINDS, Kind
from anonsynth.audits.scoring import Null, make_null, one_scan_per_patient, score
from anonsynth.audits.views import ViewGrid, block_mean
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Scan
from anonsynth.policies.model import AuditRules
from anonsynth.progress import Progress

LEVEL = 0.01
SSIM_AMONG = 20
FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Simple:
    """The simple ways of looking: every training image at view resolution, in memory."""

    images: npt.NDArray[np.float32]
    patients: tuple[str, ...]
    grid: ViewGrid

    def statistics(self, scan: Scan, without: str | None = None) -> Mapping[str, float]:
        """Return for a scan what each way takes for evidence of a copy; larger is stronger."""
        keep = np.array([patient != without for patient in self.patients])
        image, others = _reduced(scan, self.grid), self.images[keep]
        distance = np.sqrt(((others - image) ** 2).reshape(len(others), -1).mean(1))
        near = np.argsort(distance)
        ssim = max(_ssim(image, others[i]) for i in near[:SSIM_AMONG])
        distance = distance[near]
        return {
            "nearest voxels": -float(distance[0]),
            "SSIM": ssim,
            "closest record ratio": -float(distance[0] / max(distance[1], 1e-9)),
        }


def _ssim(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    window = min(5, min(first.shape[1:]) // 2 * 2 - 1)
    scores = [structural_similarity(a, b, data_range=1.0, win_size=window) for a, b in zip(first, second, strict=True)]
    return float(np.mean(scores))


def main() -> int:
    """Print the tables."""
    options = _options()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, Progress() as progress:
        folders = {name: getattr(options, name) for name in ("cohort", "train", "holdout")}
        settings = AuditSettings(options.synthetic, Path(scratch), seed=options.seed, **folders)
        sides = open_sides(settings, find_sources(settings, AuditRules()), Path(scratch), progress)
        grid = _grid(sides)
        index = build_index(sides.reference, sides.reference.of(Split.TRAIN), grid, Path(scratch) / "index", progress)
        _power(sides, learn(index, options.seed, progress), options, progress)
    print(f"{time.perf_counter() - start:.0f} s for all of it")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("synthetic", type=Path, help="folder of generated scans that are no copies")
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--train", type=Path, help="folder of training scans, in place of a cohort")
    parser.add_argument("--holdout", type=Path, help="folder of holdout scans")
    parser.add_argument("--copies", type=int, default=40, help="planted copies of each kind, one a patient")
    parser.add_argument("--curves", type=int, default=10, help="planted copies at each further strength; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _grid(sides: Sides) -> ViewGrid:
    values = {entry.value for side in (sides.reference, sides.synthetic) for entry in side.info.labels}
    return ViewGrid(sides.reference.grid.shape, sides.reference.grid.spacing, tuple(sorted(values)))


def _power(sides: Sides, index: Index, options: argparse.Namespace, progress: Progress) -> None:
    reference = sides.reference
    drawn = one_scan_per_patient(cohort_queries(reference, index.records), options.seed, "controls")
    held = one_scan_per_patient(cohort_queries(reference, reference.of(Split.HOLDOUT)), options.seed, "holdout")
    training = compare(drawn, index, progress, "training patients")
    holdout = compare(held, index, progress, "holdout patients")
    backgrounds = cohort_queries(sides.synthetic, sides.synthetic.records)
    beside = beside_holdout(backgrounds, drawn, index, options.seed, progress)
    null = make_null(holdout, training, beside, index.students)
    usual = usual_of(compare(backgrounds, index, progress, "generated scans"), beside=null.usual)
    simple = _simple(index)
    simple_null = [simple.statistics(query.load()) for query in held]
    companion = [simple.statistics(query.load(), query.patient) for query in drawn]
    ways = list(simple_null[0])
    print("\t".join(["planted", "copies", "audit", "interval", *ways]))
    for kind in KINDS:
        for strength in sorted({kind.strength, *(kind.curve if options.curves else ())}):
            count = options.copies if strength == kind.strength else options.curves
            planted = plant(kind, strength, drawn[:count], backgrounds, reference.grid, options.seed)
            found = score(compare(planted, index, progress, kind.titled(strength)), null, usual).combined <= LEVEL
            own = [simple.statistics(query.load()) for query in planted]
            _row(kind, strength, found, [_rate(own, simple_null, companion, way) for way in ways])
    _alarms(null, holdout, training)


def _row(kind: Kind, strength: float, found: npt.NDArray[np.bool_], rates: Sequence[float]) -> None:
    bounds = exact_interval(int(found.sum()), len(found), 0.95)
    cells = [f"{found.mean():.3f}", f"{bounds.low:.3f} to {bounds.high:.3f}", *(f"{rate:.2f}" for rate in rates)]
    print("\t".join([kind.titled(strength), str(len(found)), *cells]), flush=True)


Rows = Sequence[Mapping[str, float]]


def _rate(planted: Rows, null: Rows, companion: Rows, way: str) -> float:
    values, known, others = ([row[way] for row in rows] for rows in (planted, null, companion))
    return float(np.mean(calibrate(values, known, others).p <= LEVEL))


def _simple(index: Index) -> Simple:
    grid = index.grid.views
    images = [_reduced(index.cohort.load(record), grid) for record in index.records]
    return Simple(np.stack(images), tuple(record.patient for record in index.records), grid)


def _reduced(scan: Scan, grid: ViewGrid) -> npt.NDArray[np.float32]:
    """Return the image at view resolution, each modality brought to mean 0.5 of its body, as a careful user would."""
    reduced = np.stack([block_mean(channel, grid.factors) for channel in scan.image])
    for channel in reduced:
        inside = channel > 0
        if inside.any():
            channel *= 0.5 / channel[inside].mean()
    return reduced


def _alarms(null: Null, holdout: Sequence[Matches], training: Sequence[Matches]) -> None:
    """Judge every holdout patient by a null without it, and every training patient by the holdout."""
    values, others = null.evidence(null.values), null.evidence_of_others()
    own = [calibrate(values[[i]], np.delete(values, i), others).p[0] for i in range(len(values))]
    _alarm_row("holdout patients, p ≤ 0.01", np.array(own), len(holdout))
    left_out = score(training, null, null.usual, without_own=True).combined
    _alarm_row("left-out training patients, p ≤ 0.01", left_out, len(training))


def _alarm_row(name: str, p: FloatVector, count: int) -> None:
    found = int((p <= LEVEL).sum())
    bounds = exact_interval(found, count, 0.95)
    print(f"{name}\t{count}\t{found / count:.3f}\t{bounds.low:.3f} to {bounds.high:.3f}")


if __name__ == "__main__":
    raise SystemExit(main())
