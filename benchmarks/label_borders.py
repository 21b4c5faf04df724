"""Where an image's borders lie beside its label map's: in real scans often a voxel away, in generated ones less.

    python benchmarks/label_borders.py COHORT SYNTHETIC [--scans 60]

A network that is trained on labels which fit every edge learns to trust edges more than real labels deserve. For every
voxel near the border of the labelled structure this asks whether its intensity is nearer to that of the surroundings
(the nearest context class of its own scan) than to the structure's own median. The share is printed by depth, with a
95 % bootstrap interval over patients. Meant for cohorts that label a structure and not a whole brain.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anonsynth.anatomy.borders import DEPTHS, border_profile, seen_classes
from anonsynth.anatomy.context import CONTEXT_CLASSES
from anonsynth.cohort.layouts import find_nifti
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import open_cohort

BOOTSTRAPS = 2000

Pair = tuple[str, npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("--scans", type=int, default=60)
    arguments = parser.parse_args()
    real = by_patient(real_pairs(arguments.cohort, arguments.scans))
    generated = by_patient(generated_pairs(arguments.synthetic, arguments.scans))
    print(
        f"share of voxels that look like the surroundings; {len(real)} patients, {len(generated)} substitute patients"
    )
    print(f"{'depth':>6s}  {'real':24s}{'generated':24s}")
    for index, (low, high) in enumerate(itertools.pairwise(DEPTHS)):
        texts = [interval(counts[:, :, index]) for counts in (real, generated)]
        print(f"{(low + high) / 2:6.2f}  {texts[0]:24s}{texts[1]:24s}")


def real_pairs(cohort_folder: Path, most: int) -> Iterator[Pair]:
    """Yield the first labelled training scans, first modality."""
    cohort = open_cohort(cohort_folder)
    for record in [r for r in cohort.of(Split.TRAIN) if r.labelled][:most]:
        scan = cohort.load(record)
        yield record.patient, scan.image[0], scan.label


def generated_pairs(folder: Path, most: int) -> Iterator[Pair]:
    """Yield the first generated scans, first modality."""
    for scan in find_nifti(folder).scans[:most]:
        if scan.label is not None:
            image = np.asarray(scan.modalities[0][1].read().array, np.float32)
            yield scan.patient, image, np.asarray(scan.label.read().array).astype(np.uint8)


def by_patient(pairs: Iterable[Pair]) -> npt.NDArray[np.float64]:
    """Return (patients, 2, bins): voxels that look like the surroundings, and all that were looked at."""
    counts: dict[str, npt.NDArray[np.float64]] = {}
    for patient, image, label in pairs:
        counts[patient] = counts.get(patient, np.zeros((2, len(DEPTHS) - 1))) + border_counts(image, label)
    return np.stack(list(counts.values()))


def border_counts(image: npt.NDArray[np.float32], label: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Count (2, depths) for one scan (X, Y, Z) with intensities in [0, 1], 0 outside the field of view."""
    inside, fov = label > 0, image > 0
    return border_profile(image, seen_classes(image, inside, fov), CONTEXT_CLASSES + 1)


def interval(counts: npt.NDArray[np.float64]) -> str:
    """Return share and interval of (patients, 2) counts as text."""
    rng = np.random.default_rng(0)
    drawn = counts[rng.integers(len(counts), size=(BOOTSTRAPS, len(counts)))].sum(1)
    low, high = np.quantile(drawn[:, 0] / np.maximum(drawn[:, 1], 1), [0.025, 0.975])
    found, total = counts.sum(0)
    return f"{found / max(total, 1):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
