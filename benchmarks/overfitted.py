"""Overfit a generator on purpose, on eight patients, and audit what it makes: the verdict has to be `fail`.

    python benchmarks/overfitted.py SOURCE --out FOLDER [--train 8] [--holdout 26] [--spacing 2,2,2] [--steps 2000]

SOURCE is a folder with `images/`, `labels/` and `patients.tsv`. Of its patients a few are drawn to train on and others
to hold out; the rest is left aside. The generator is anonsynth's own with its own settings, trained for much longer
than eight patients are good for. What it then makes is audited in three ways, each a step nearer to a copy:

    as generated     label maps from the shape prior, styles drawn: what `anonsynth generate` writes
    known maps       label maps of the training patients, styles drawn; only the images are audited
    known patients   label maps and style codes of the training patients; only the images are audited

The last is a generator that overfitted in everything that it draws from. Its label maps would be copies by
construction and prove nothing, so they are not shown to the audit.

Exit status: 0 if the audit of `known patients` says `fail`, 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from anonsynth.audits.audit import AuditSettings, audit
from anonsynth.audits.finding import Verdict
from anonsynth.cohort.geometry import FloatVolume
from anonsynth.cohort.ingest import IngestSettings, ingest
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, open_cohort
from anonsynth.files import write_tsv
from anonsynth.policies.model import load_policy
from anonsynth.progress import Progress
from anonsynth.release.substitute import generate
from anonsynth.seeds import stream, stream_seed
from anonsynth.synthesis.checkpoint import load_weights
from anonsynth.synthesis.data import read_class_map
from anonsynth.synthesis.label_to_mri import render
from anonsynth.synthesis.model import GENERATOR_FILE, ModelInfo, open_model
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.settings import GenerateSettings, PerformanceSettings, TrainSettings
from anonsynth.synthesis.style import draw_style, fit_styles, measure_colours
from anonsynth.synthesis.train import train
from anonsynth.synthesis.vocabulary import coordinates

POLICY = "internal"


@dataclass(frozen=True, slots=True)
class Known:
    """A training scan as the generator was told of it."""

    scan: str
    image: FloatVolume
    classes: torch.Tensor
    style: torch.Tensor


def main() -> int:
    """Make the cohort, overfit, generate, audit, and print what the audits say."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    policy = load_policy(POLICY)
    start = time.perf_counter()
    with Progress() as progress:
        cohort = _cohort(options, progress)
        model = options.out / "model"
        settings = TrainSettings(steps=options.steps, seed=options.seed)
        train(cohort, settings, policy, model, PerformanceSettings(), progress)
        print(
            f"trained on {len(cohort.patients(Split.TRAIN))} patients, {time.perf_counter() - start:.0f} s", flush=True
        )
        arms = {"as generated": options.out / "as_generated"}
        generate(GenerateSettings(model=model, out=arms["as generated"], count=options.count), progress)
        known = _known(cohort, model)
        for name, styles_too in (("known maps", False), ("known patients", True)):
            arms[name] = options.out / name.replace(" ", "_")
            likeness = _write_known(arms[name], cohort, model, known, options.count, styles_too=styles_too)
            print(f"{name}: correlation with the training scan behind it, median {np.median(likeness):.3f}", flush=True)
        verdicts = {}
        for name, folder in arms.items():
            out = options.out / f"audit_{folder.name}"
            settings_of = AuditSettings(folder, out, cohort=cohort.folder, weaker_copies=0, curve_copies=0)
            result = audit(settings_of, policy, progress)
            verdicts[name] = result.document.verdict
            flagged = sum(sample.flagged for sample in result.document.samples)
            print(f"{name}\t{flagged}/{len(result.document.samples)} flagged\t{result.sentence}", flush=True)
    return 0 if verdicts["known patients"] is Verdict.FAIL else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder with images/, labels/ and patients.tsv")
    parser.add_argument("--out", type=Path, required=True, help="private folder; a run that was interrupted resumes")
    parser.add_argument("--train", type=int, default=8, help="patients to overfit on")
    parser.add_argument("--holdout", type=int, default=26, help="patients to hold out")
    parser.add_argument("--spacing", default="2,2,2", help="grid in mm; coarse, so that long training is affordable")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--count", type=int, default=100, help="scans to generate")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _cohort(options: argparse.Namespace, progress: Progress) -> Cohort:
    """Ingest a source of links to the scans of some patients; ingest draws who of them is held out."""
    if (options.out / "cohort" / "cohort.json").exists():
        return open_cohort(options.out / "cohort")
    rows = [line.split("\t")[:2] for line in (options.source / "patients.tsv").read_text("utf-8").splitlines()[1:]]
    people = sorted({patient for _, patient in rows})
    rng = stream(options.seed, "benchmark", "overfitted")
    wanted = set(rng.choice(people, options.train + options.holdout, replace=False).tolist())
    source = options.out / "source"
    for kind in ("images", "labels"):
        (source / kind).mkdir(parents=True, exist_ok=True)
    for volume, _ in (row for row in rows if row[1] in wanted):
        for kind in ("images", "labels"):
            link = source / kind / f"{volume}.nii.gz"
            if not link.exists():
                link.symlink_to((options.source / kind / link.name).resolve())
    kept = [{"volume": volume, "patient": patient} for volume, patient in rows if patient in wanted]
    write_tsv(source / "patients.tsv", ("volume", "patient"), kept)
    x, y, z = (float(size) for size in options.spacing.split(","))
    settings = IngestSettings(
        sources=(source,),
        out=options.out / "cohort",
        spacing=(x, y, z),
        holdout=options.holdout / len(wanted),
        seed=options.seed,
    )
    return ingest(settings, load_policy(POLICY), progress)


def _known(cohort: Cohort, model: Path) -> list[Known]:
    """Return the training scans with the class maps and the style codes that the generator was trained on."""
    info = open_model(model)
    folder = cohort.folder / "derived" / info.settings_sha256[:16]
    records = [record for record in cohort.of(Split.TRAIN) if (folder / f"{record.scan}.nii").exists()]
    scans = [(cohort.load(record), read_class_map(folder, record.scan)) for record in records]
    count = info.source.vocabulary.classes
    measured = [
        measure_colours(
            scan.image,
            np.broadcast_to(scan.present[:, None, None, None] & (classes > 0), scan.image.shape),
            classes,
            count,
        )
        for scan, classes in scans
    ]
    styles = fit_styles(measured, info.settings.style)
    return [
        Known(record.scan, scan.image, torch.from_numpy(classes)[None], torch.from_numpy(styles.encode(colours))[None])
        for record, (scan, classes), (colours, _) in zip(records, scans, measured, strict=True)
    ]


def _write_known(
    folder: Path, cohort: Cohort, model: Path, known: list[Known], count: int, *, styles_too: bool
) -> list[float]:
    """Write images for training patients' class maps; return how much each is like the scan that it was learnt from."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    likeness = []
    for number, image, source in _painted(model, known, count, styles_too=styles_too):
        for channel in image:
            nib.save(nib.Nifti1Image(channel, cohort.grid.affine), folder / "images" / f"synth{number:04d}.nii.gz")
        seen = (source.classes[0].numpy() > 0)[None] & (source.image > 0)
        likeness.append(float(np.corrcoef(image[seen], source.image[seen])[0, 1]))
    return likeness


@torch.no_grad()
def _painted(
    model: Path, known: list[Known], count: int, *, styles_too: bool
) -> Iterator[tuple[int, FloatVolume, Known]]:
    info = open_model(model)
    generator = _generator(info, model)
    place = coordinates(info.grid.shape)[None]
    for number in range(1, count + 1):
        source = known[number % len(known)]
        noise = torch.Generator().manual_seed(stream_seed(0, "benchmark", "overfitted", number))
        style = source.style if styles_too else draw_style(info.settings.style, noise)
        image = render(generator, source.classes, place, style, info.source.vocabulary, noise)[0]
        yield number, image.numpy().astype(np.float32), source


def _generator(info: ModelInfo, folder: Path) -> PaintedTranslator:
    settings = info.settings
    generator = PaintedTranslator(
        info.source.vocabulary.classes, len(info.modalities), width=settings.width, style=settings.style
    )
    load_weights(folder / GENERATOR_FILE, generator)
    return generator.eval()


if __name__ == "__main__":
    sys.exit(main())
