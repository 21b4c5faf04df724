"""Finishing: straying borders and texture that were put into scans on purpose are found again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from anonsynth.anatomy.borders import stray
from anonsynth.anatomy.priors import DrawnLabel, Guarantee
from anonsynth.anatomy.rim import KNOTS, SIDES, rim_volume
from anonsynth.cohort.geometry import Grid, LabelVolume
from anonsynth.cohort.model import CohortInfo, GridInfo, LabelEntry, ScanRecord, Split
from anonsynth.cohort.store import Cohort, open_cohort, save_cohort_tables, save_scan
from anonsynth.files import sha256_file
from anonsynth.progress import Progress
from anonsynth.synthesis.finish import finish
from anonsynth.synthesis.painter import PaintedTranslator
from anonsynth.synthesis.texture import WIDTHS
from anonsynth.synthesis.vocabulary import Vocabulary

SHAPE = (36, 32, 28)
COLOURS = np.array([0, 0.15, 0.85, 0.5], np.float32)
VOCABULARY = Vocabulary(context=2, labels=(LabelEntry(value=1, name="ball"),))
PATIENTS = 6
STRAYED, TEXTURE, RIM = 0.9, 0.05, 0.15
UP, DOWN, AT_BORDER = 5, 4, KNOTS.index(0.5) - 1


def class_map(rng: np.random.Generator) -> LabelVolume:
    """A ball, half in dark and half in bright surroundings."""
    axes = np.indices(SHAPE) - np.array(SHAPE)[:, None, None, None] / 2 - rng.normal(0, 1, (3, 1, 1, 1))
    classes = np.where(axes[0] < 0, 1, 2)
    classes[np.square(axes).sum(0) < 10**2] = 3
    return classes.astype(np.uint8)


@dataclass(frozen=True)
class Balls:
    """A prior of balls like those of the cohort."""

    grid: Grid
    name: str = "balls"
    guarantee: Guarantee = Guarantee.NONE
    labels: tuple[LabelEntry, ...] = VOCABULARY.labels

    def draw(self, rng: np.random.Generator) -> DrawnLabel:
        return DrawnLabel(class_map(rng), (0, 0, 0), SHAPE, {})


def painter() -> PaintedTranslator:
    """A generator that paints `COLOURS` and nothing else."""
    torch.manual_seed(0)
    generator = PaintedTranslator(VOCABULARY.classes, 1, width=8, style=2).eval()
    generator.painter.mean.copy_(torch.from_numpy(COLOURS)[None])
    generator.painter.softness.data.fill_(-20)
    generator.grain.strength.data.zero_()
    return generator


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Scans that were painted with strayed borders and with texture in the ball."""
    return painted_cohort(tmp_path_factory.mktemp("strayed"), 0.0)


@pytest.fixture(scope="module")
def rimmed(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The same with a bright rim inside the ball's upper border."""
    return painted_cohort(tmp_path_factory.mktemp("rimmed"), RIM)


def painted_cohort(folder: Path, rim: float) -> Cohort:
    """Write and open a cohort of balls."""
    rims = np.zeros((1, SIDES, len(KNOTS) - 1))
    rims[0, UP, AT_BORDER] = rim
    grid = Grid(SHAPE, (1.0, 1.0, 1.0)).centred()
    (folder / "maps").mkdir()
    records = []
    for index in range(PATIENTS):
        rng = np.random.default_rng(index)
        classes = class_map(rng)
        image = COLOURS[stray(classes, 3, STRAYED, rng)]
        field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), WIDTHS[1])
        image = image + rim_volume(classes == 3, rims)[0]
        image = np.clip(image + TEXTURE * (classes == 3) * field / field.std(), 0, 1).astype(np.float32)
        name = f"P{index + 1:04d}-S01"
        written = save_scan(folder / "scans" / name, grid, [("T1w", image)], VOCABULARY.label_map(classes))
        nib.save(nib.Nifti1Image(classes, grid.affine), folder / "maps" / f"{name}.nii")
        records.append(
            ScanRecord(
                scan=name,
                patient=name[:5],
                split=Split.TRAIN,
                modalities=("T1w",),
                labelled=True,
                fov_low=(0, 0, 0),
                fov_high=SHAPE,
                sha256=sha256_file(written[0]),
            )
        )
    info = CohortInfo(
        anonsynth="0",
        layout="made by the tests",
        policy="internal",
        seed=0,
        holdout_fraction=0,
        modalities=("T1w",),
        labels=VOCABULARY.labels,
        grid=GridInfo(shape=SHAPE, spacing=(1.0, 1.0, 1.0)),
        grid_given=True,
        interpolation="linear",
        patients=PATIENTS,
        scans=PATIENTS,
        quarantined=0,
        merged_duplicates=0,
        settings_sha256="0" * 64,
    )
    save_cohort_tables(folder, info, records)
    return open_cohort(folder)


def test_straying_and_texture_are_found_again(cohort: Cohort) -> None:
    generator = painter()
    distance = finished(generator, cohort, VOCABULARY)
    assert distance == pytest.approx(STRAYED, abs=0.25)
    strength = generator.texture.strength[:, 0].numpy()
    assert np.sqrt(np.square(strength[:, 3]).sum()) == pytest.approx(TEXTURE, rel=0.5)
    assert strength[:, 3].argmax() == 1  # of the width that was put in
    assert np.all(strength[:, 0] == 0)
    assert generator.rim.lacking.abs().max() < 0.1  # the painter knows all there is to know but what was put in below


def test_a_rim_is_found_again(rimmed: Cohort) -> None:
    generator = painter()
    finished(generator, rimmed, VOCABULARY)
    lacking = generator.rim.lacking[0].numpy()
    assert lacking[UP, AT_BORDER] - lacking[DOWN, AT_BORDER] == pytest.approx(RIM, abs=0.08)


def test_nothing_is_done_where_surroundings_are_not_modelled(cohort: Cohort) -> None:
    generator = painter()
    assert finished(generator, cohort, Vocabulary(context=1, labels=VOCABULARY.labels)) == 0
    assert generator.texture.strength.abs().max() == 0


def finished(generator: PaintedTranslator, cohort: Cohort, vocabulary: Vocabulary) -> float:
    codes = {record.scan: np.zeros(2, np.float32) for record in cohort.records}
    maps, prior, device = cohort.folder / "maps", Balls(cohort.grid), torch.device("cpu")
    with Progress(quiet=True) as progress:
        return finish(generator, cohort, cohort.records, maps, codes, vocabulary, prior, 0, device, progress)
