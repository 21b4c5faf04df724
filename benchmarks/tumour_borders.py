"""How sharply a tumour ends: the step of intensity across its border in generated scans, real ones, and pasted tumours.

    python benchmarks/tumour_borders.py COHORT SYNTHETIC [--scans 60] [--seed 0]

The step of a scan and modality is the mean within `INNER` mm inside the tumour's border less that within as many mm
outside it, at every voxel of the border that has enough of both around it, in units of the standard deviation of the
scan's voxels above 0: the spread of steps along a border tells of fingers and blur, their mean of contrast. A patient
gives `QUANTILES` quantiles of her steps. Printed, by modality, is the Wasserstein-1 distance between the steps of real
patients (training and holdout) and those of

* generated scans;
* pasted tumours: the voxels of a real patient's tumour copied, with her label, over another patient's scan at the place
  that mirrors that patient's own tumour, where both scans show tissue: what "superimposed" looks like;
* a half of the real patients against the other half, which is how far apart patients are by chance.

Every patient weighs the same. 95 % intervals: bootstrap over patients, on both sides. A bootstrap of a distance that
cannot be negative lies above it where groups differ little; the row of halves says by how much.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anonsynth.cohort.layouts import find_nifti
from anonsynth.cohort.model import LabelKind
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.seeds import stream

INNER = 6.0
"""How far the two sides reach, mm."""
LEAST = 0.15
"""Least share of a ball around a border voxel that each side has to hold; elsewhere a step is noise."""
QUANTILES = (np.arange(40) + 0.5) / 40
BOOTSTRAPS = 1000
LEAST_VOXELS = 30

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]
Steps = npt.NDArray[np.float64]
"""(N, 40) quantiles of the steps of N patients."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("--scans", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    cohort = open_cohort(arguments.cohort)
    spacing = cohort.info.grid.grid.spacing
    modalities = cohort.info.modalities
    real = real_scans(cohort, arguments.scans)
    pasted = list(pasted_scans(real, stream(arguments.seed, "paste")))
    made = list(generated_scans(arguments.synthetic, arguments.scans, modalities))
    print(f"{len(real)} real, {len(made)} generated, {len(pasted)} pasted; seed {arguments.seed}\n")
    print("| modality | generated | pasted | generated ÷ pasted | real halves | median step: real, generated, pasted |")
    print("|---|---|---|---|---|---|")
    for channel, name in enumerate(modalities):
        groups = [of_group(scans, channel, spacing) for scans in (real, made, pasted)]
        print(f"| {name} | " + " | ".join(compared(*groups, stream(arguments.seed, "bootstrap", name))) + " |")


Scan = tuple[list[Image | None], Mask]
"""Images in the order of the cohort's modalities, None where one is missing, and where the tumour is."""


def real_scans(cohort: Cohort, most: int) -> list[Scan]:
    """Return the cohort's labelled scans, one a patient."""
    values = [entry.value for entry in cohort.info.labels if entry.kind is LabelKind.TUMOUR]
    found: dict[str, Scan] = {}
    for record in [record for record in cohort.records if record.labelled][:most]:
        scan = cohort.load(record)
        images = [
            np.asarray(scan.image[channel], np.float32) if name in record.modalities else None
            for channel, name in enumerate(cohort.info.modalities)
        ]
        found.setdefault(record.patient, (images, np.isin(scan.label, values)))
    return [scan for scan in found.values() if scan[1].sum() >= LEAST_VOXELS]


def generated_scans(folder: Path, most: int, modalities: Sequence[str]) -> Iterator[Scan]:
    """Yield generated scans."""
    found = find_nifti(folder)
    values = [value for value, entry in found.labels.items() if entry.kind is LabelKind.TUMOUR]
    for scan in found.scans[:most]:
        if scan.label is None:
            continue
        volumes = dict(scan.modalities)
        images = [np.asarray(volumes[n].read().array, np.float32) if n in volumes else None for n in modalities]
        tumour = np.isin(np.asarray(scan.label.read().array), values)
        if tumour.sum() >= LEAST_VOXELS:
            yield images, tumour


def pasted_scans(real: Sequence[Scan], rng: np.random.Generator) -> Iterator[Scan]:
    """Yield each patient's scan with another's tumour pasted over the mirror place of her own."""
    donors = np.roll(rng.permutation(len(real)), 1)
    for number, (images, own) in enumerate(real):
        given, tumour = real[donors[number]]
        host = np.rint(np.argwhere(own[::-1]).mean(0)).astype(int)
        places = np.argwhere(tumour)
        there = places - np.rint(places.mean(0)).astype(int) + host
        shown = [image for image in images if image is not None]
        inside = ((there >= 0) & (there < own.shape)).all(1)
        clipped = np.where(inside[:, None], there, 0)
        tissue = inside & np.all([image[tuple(clipped.T)] > 0 for image in shown], axis=0)
        tissue &= ~own[tuple(clipped.T)]
        if number == donors[number] or tissue.sum() < LEAST_VOXELS:
            continue
        target, source = tuple(there[tissue].T), tuple(places[tissue].T)
        label = np.zeros(own.shape, bool)
        label[target] = True
        made: list[Image | None] = []
        for image, lent in zip(images, given, strict=True):
            if image is None or lent is None:
                made.append(None)
                continue
            copy = image.copy()
            copy[target] = lent[source]
            made.append(copy)
        yield made, label


def of_group(scans: Sequence[Scan], channel: int, spacing: tuple[float, float, float]) -> Steps:
    """Return the quantiles of the steps (N, 40) of those scans that have the modality."""
    found = []
    for images, tumour in scans:
        image = images[channel]
        if image is None:
            continue
        steps = border_steps(image, tumour, spacing)
        if steps.size >= LEAST_VOXELS:
            found.append(np.quantile(steps, QUANTILES))
    return np.array(found)


def border_steps(image: Image, tumour: Mask, spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Return the step at each voxel of the tumour's border (N,), in deviations of the scan's voxels above 0."""
    reach = [int(np.ceil(INNER / step)) + 1 for step in spacing]
    corners = np.argwhere(tumour)
    low, high = np.maximum(corners.min(0) - reach, 0), corners.max(0) + 1 + reach
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    local, mask = image[box].astype(np.float64), tumour[box]
    tissue = local > 0
    near = ball(spacing)
    means, shares = [], []
    for side in (mask & tissue, ~mask & tissue):
        share = ndimage.convolve(side.astype(np.float64), near, mode="constant")
        total = ndimage.convolve(np.where(side, local, 0), near, mode="constant")
        means.append(total / np.maximum(share, 1e-9))
        shares.append(share)
    border = mask & ~ndimage.binary_erosion(mask) & (shares[0] > LEAST) & (shares[1] > LEAST)
    steps: npt.NDArray[np.float64] = (means[0] - means[1])[border] / max(float(image[image > 0].std()), 1e-6)
    return steps


def ball(spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Return equal weights on the voxels within `INNER` mm; they sum to 1."""
    axes = [step * np.arange(-int(INNER / step), int(INNER / step) + 1) for step in spacing]
    held = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= INNER**2
    return held / held.sum()


def distance(one: Steps, other: Steps) -> float:
    """Return Wasserstein's first distance between two groups; every patient weighs the same."""
    levels = (np.arange(400) + 0.5) / 400
    return float(np.abs(np.quantile(one, levels) - np.quantile(other, levels)).mean())


def compared(real: Steps, made: Steps, pasted: Steps, rng: np.random.Generator) -> list[str]:
    """Return the table's cells of one modality."""

    def again(group: Steps) -> Steps:
        return group[rng.integers(len(group), size=len(group))]

    drawn = []
    for _ in range(BOOTSTRAPS):
        true = again(real)
        drawn.append((distance(true, again(made)), distance(true, again(pasted))))
    bootstrap = np.array(drawn)
    ratios = bootstrap[:, 0] / np.maximum(bootstrap[:, 1], 1e-9)
    ours, theirs = distance(real, made), distance(real, pasted)
    halves = []
    for _ in range(BOOTSTRAPS):
        order = rng.permutation(len(real))
        halves.append(distance(real[order[::2]], real[order[1::2]]))
    return [
        _cell(ours, bootstrap[:, 0]),
        _cell(theirs, bootstrap[:, 1]),
        _cell(ours / max(theirs, 1e-9), ratios),
        _cell(float(np.median(halves)), np.array(halves)),
        ", ".join(f"{np.median(group):.2f}" for group in (real, made, pasted)),
    ]


def _cell(value: float, drawn: npt.NDArray[np.float64]) -> str:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
