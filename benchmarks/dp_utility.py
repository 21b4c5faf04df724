"""What a guarantee costs a researcher: a U-Net trained on substitute scans of each ε, beside one trained on real scans.

    python benchmarks/dp_utility.py COHORT --out WORK [--arms rung0,8,3,1] [--seeds 3] [--steps 300] [--json FILE]
                                    [--anatomy DIR [--anatomy-labels TSV]] [--tested-on train]

For every arm a model is trained (rung 0: public constants; a number: rung 1 at that ε; `3@8`: rung 3 at ε = 8, and so
on; `none`: no privacy; any of them with `+maps`: label maps from the public ones of --anatomy), 200 scans are generated
with their label maps, and the fixed U-Net of `substitute_utility.py` is trained on them and tested on the holdout. The
ratio to the arm of real scans has a 95 % bootstrap interval over the patients. With `--tested-on train` the training
patients judge: that is for choosing between ways to make a model without looking at the holdout, and no result, since
the arm of real scans has learned from them.

Every private arm is spent in the cohort's ledger, as any training is: use a copy of the cohort. Models and scans are
kept under WORK and not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from substitute_utility import BOOTSTRAPS, generated_pairs, real_pairs, score

from anonsynth.cli.parsing import public_maps
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.files import write_json
from anonsynth.policies.model import load_policy
from anonsynth.progress import Progress
from anonsynth.release.substitute import generate
from anonsynth.synthesis.private_train import Request
from anonsynth.synthesis.rungs import open_rung
from anonsynth.synthesis.settings import GenerateSettings, GuaranteeSettings, PerformanceSettings, TrainSettings
from anonsynth.synthesis.train import train

Scores = npt.NDArray[np.float64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", default="rung0,8,3,1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of the U-Net")
    parser.add_argument("--train-steps", type=int, default=500, help="of the generator without privacy")
    parser.add_argument("--count", type=int, default=200, help="scans generated an arm")
    parser.add_argument("--json", type=Path, help="results of every run; runs that are in it are not repeated")
    parser.add_argument("--anatomy", type=Path, help="public label maps, for the arms with +maps")
    parser.add_argument("--anatomy-labels", type=Path, help="which of their values show which label of the cohort")
    parser.add_argument("--tested-on", type=Split, default=Split.HOLDOUT, choices=list(Split))
    arguments = parser.parse_args()

    cohort = open_cohort(arguments.cohort)
    done = _kept(arguments)
    for arm in ("real", *arguments.arms.split(",")):
        done.setdefault(arm, [])
        _measure(cohort, arm, done, arguments)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"tested on {arguments.tested_on.value} patients, {arguments.steps} steps, {machine}")
    print("\n| trained on | Dice by seed | mean | ratio to real |\n|---|---|---|---|")
    for line in report({arm: np.array(runs) for arm, runs in done.items()}):
        print(line)


def report(scores: dict[str, Scores]) -> list[str]:
    """Return a line an arm: Dice by seed, its mean, and its ratio to real scans with an interval over patients.

    Args:
        scores: Of each arm, (seeds, patients).
    """
    real = scores["real"].mean(0)
    drawn = np.random.default_rng(0).integers(len(real), size=(BOOTSTRAPS, len(real)))
    lines = []
    for arm, runs in scores.items():
        mean = runs.mean(0)
        low, high = np.quantile(mean[drawn].mean(1) / real[drawn].mean(1), [0.025, 0.975])
        seeds = ", ".join(f"{value:.3f}" for value in runs.mean(1))
        ratio = mean.mean() / real.mean()
        lines.append(f"| {arm} | {seeds} | {mean.mean():.3f} | {ratio:.3f} [{low:.3f}, {high:.3f}] |")
    return lines


def _kept(arguments: argparse.Namespace) -> dict[str, list[list[float]]]:
    if not (arguments.json and arguments.json.exists()):
        return {}
    kept = json.loads(arguments.json.read_text("utf-8"))
    if (kept["steps"], kept.get("tested_on", Split.HOLDOUT)) != (arguments.steps, arguments.tested_on):
        msg = f"{arguments.json.name} holds runs of other steps or patients; name another file"
        raise SystemExit(msg)
    arms: dict[str, list[list[float]]] = kept["arms"]
    return arms


def _measure(cohort: Cohort, arm: str, done: dict[str, list[list[float]]], arguments: argparse.Namespace) -> None:
    """Add the runs of an arm that are missing."""
    if len(done[arm]) >= arguments.seeds:
        return
    values = [entry.value for entry in cohort.info.labels]
    if arm == "real":
        images, labels = real_pairs(cohort, values)
    else:
        images, labels = generated_pairs(cohort, substitute(cohort, arm, arguments), values)
    for seed in range(len(done[arm]), arguments.seeds):
        done[arm].append(score(cohort, values, images, labels, arguments, seed, arm).tolist())
        if arguments.json:
            kept = {"steps": arguments.steps, "tested_on": arguments.tested_on.value, "arms": done}
            write_json(arguments.json, kept)


def substitute(cohort: Cohort, arm: str, arguments: argparse.Namespace) -> Path:
    """Return the folder of an arm's substitute scans; make them unless they are there."""
    folder = arguments.out / f"arm-{arm}"
    policy, performance = load_policy("internal"), PerformanceSettings()
    way, _, maps_asked = arm.partition("+")
    maps = public_maps(arguments.anatomy, arguments.anatomy_labels) if maps_asked else None
    if maps_asked and (maps is None or maps_asked != "maps"):
        msg = f"arm {arm}: write +maps, and name their folder with --anatomy"
        raise SystemExit(msg)
    with Progress() as progress:
        if way == "none":
            settings = TrainSettings(steps=arguments.train_steps)
            model = train(cohort, settings, policy, folder / "model", performance, progress, maps=maps)
        else:
            rung, _, epsilon = way.rpartition("@")
            asked = GuaranteeSettings(
                rung=0 if way == "rung0" else int(rung or 1),
                epsilon=None if way == "rung0" else float(epsilon),
                patients=len(cohort.patients(Split.TRAIN)),
                modalities=cohort.info.modalities,
                labels=tuple(entry.value for entry in cohort.info.labels),
            )
            request = Request(cohort, TrainSettings(), asked, policy, folder / "model", performance, progress, maps)
            model = open_rung(asked.rung).train(request)
        return generate(GenerateSettings(model=model, out=folder / "synthetic", count=arguments.count), progress)


if __name__ == "__main__":
    main()
