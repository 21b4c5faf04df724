"""What a substitute cohort is worth: one fixed U-Net trained on it and on the real patients, tested on the holdout.

    python benchmarks/substitute_utility.py COHORT SYNTHETIC [--seeds 3] [--tested-on holdout] [--json FILE]

Both arms get the same network, the same number of optimisation steps and the same seeds. Dice is the mean over labels
and over the holdout scans of a patient first, then over patients; intervals are 95 % bootstrap intervals over holdout
patients of the mean over seeds, and the ratio's interval resamples the same patients in both arms.

With `--tested-on train` the generated scans are judged by the training patients: that is for choosing between
generators without looking at the holdout. The arm of real scans then tests on what it was trained on: leave it out
with `--arms synthetic`.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from unet import dice_scores, train_unet

from anonsynth.cohort.layouts import find_nifti
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.files import write_json

Pairs = tuple[npt.NDArray[np.float16], npt.NDArray[np.uint8]]
BOOTSTRAPS = 10_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--arms", default="real,synthetic")
    parser.add_argument("--tested-on", type=Split, default=Split.HOLDOUT, choices=list(Split))
    parser.add_argument("--json", type=Path, help="results of every run; runs that are in it are not repeated")
    arguments = parser.parse_args()

    cohort = open_cohort(arguments.cohort)
    values = [entry.value for entry in cohort.info.labels]
    arms = {
        "real": lambda: real_pairs(cohort, values),
        "synthetic": lambda: generated_pairs(cohort, arguments.synthetic, values),
    }
    done: dict[str, list[list[float]]] = {}
    key = {"steps": arguments.steps, "tested_on": arguments.tested_on.value}
    if arguments.json and arguments.json.exists():
        kept = json.loads(arguments.json.read_text("utf-8"))
        if {"steps": kept["steps"], "tested_on": kept.get("tested_on", Split.HOLDOUT.value)} != key:
            msg = f"{arguments.json.name} holds runs of other steps or patients; name another file"
            raise SystemExit(msg)
        done = kept["arms"]
    for arm in arguments.arms.split(","):
        images, labels = arms[arm]()
        runs = done.setdefault(arm, [])
        for seed in range(len(runs), arguments.seeds):
            runs.append(score(cohort, values, images, labels, arguments, seed, arm).tolist())
            if arguments.json:
                write_json(arguments.json, {**key, "arms": done})
    scores = {arm: np.array(runs) for arm, runs in done.items()}
    print(
        f"\n{len(next(iter(scores.values()))[0])} {arguments.tested_on.value} patients, "
        f"{arguments.seeds} seeds, {arguments.steps} steps; "
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    report = summarise(scores)
    for name, (value, low, high) in report.items():
        print(f"{name:22s} {value:.3f}  [{low:.3f}, {high:.3f}]")


def real_pairs(cohort: Cohort, values: list[int]) -> Pairs:
    """Return the labelled training scans: (N, C, X, Y, Z) and (N, X, Y, Z) with labels counted from 1."""
    scans = [cohort.load(record) for record in cohort.of(Split.TRAIN) if record.labelled]
    return np.stack([s.image for s in scans]).astype(np.float16), np.stack([ranked(s.label, values) for s in scans])


def generated_pairs(cohort: Cohort, folder: Path, values: list[int]) -> Pairs:
    """Return the generated scans; they must lie on the cohort's grid, as anonsynth writes them."""
    images, labels = [], []
    for scan in find_nifti(folder).scans:
        named = dict(scan.modalities)
        if len(named) == len(cohort.info.modalities) == 1:
            named = {cohort.info.modalities[0]: next(iter(named.values()))}
        images.append(np.stack([named[name].read().array for name in cohort.info.modalities]).astype(np.float16))
        if scan.label is None:
            msg = "a generated scan has no label map"
            raise SystemExit(msg)
        labels.append(ranked(np.asarray(scan.label.read().array).astype(np.uint8), values))
    return np.stack(images), np.stack(labels)


def ranked(label: npt.NDArray[np.uint8], values: list[int]) -> npt.NDArray[np.uint8]:
    """Renumber label values from 1 in their order; everything else is background."""
    table = np.zeros(256, np.uint8)
    table[values] = np.arange(1, len(values) + 1)
    return table[label]


def score(
    cohort: Cohort,
    values: list[int],
    images: npt.NDArray[np.float16],
    labels: npt.NDArray[np.uint8],
    arguments: argparse.Namespace,
    seed: int,
    arm: str,
) -> npt.NDArray[np.float64]:
    """Train once and return the mean Dice of every patient that is tested on."""
    started = time.monotonic()
    classes = len(values) + 1
    net = train_unet(images, labels, classes=classes, steps=arguments.steps, seed=seed)
    by_patient: dict[str, list[float]] = {}
    for record in cohort.of(arguments.tested_on):
        if record.labelled:
            scan = cohort.load(record)
            dice = dice_scores(net, scan.image.astype(np.float16), ranked(scan.label, values), classes)
            by_patient.setdefault(record.patient, []).append(float(np.nanmean(dice)))
    result = np.array([np.mean(by_patient[patient]) for patient in sorted(by_patient)])
    print(
        f"{arm} ({len(images)} scans), seed {seed}: Dice {result.mean():.4f}  ({time.monotonic() - started:.0f} s)",
        flush=True,
    )
    return result


def summarise(scores: dict[str, npt.NDArray[np.float64]]) -> dict[str, tuple[float, float, float]]:
    """Return (value, low, high) of each arm and of the ratio of the second arm to the first."""
    rng = np.random.default_rng(0)
    means = {arm: runs.mean(0) for arm, runs in scores.items()}
    patients = len(next(iter(means.values())))
    drawn = rng.integers(patients, size=(BOOTSTRAPS, patients))
    report = {}
    for arm, mean in means.items():
        low, high = np.quantile(mean[drawn].mean(1), [0.025, 0.975])
        report[f"Dice, {arm}"] = (float(mean.mean()), float(low), float(high))
    if {"real", "synthetic"} <= means.keys():
        ratios = means["synthetic"][drawn].mean(1) / means["real"][drawn].mean(1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        report["synthetic / real"] = (float(means["synthetic"].mean() / means["real"].mean()), float(low), float(high))
    return report


if __name__ == "__main__":
    main()
