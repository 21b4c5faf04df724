"""Which prior a cohort gets, and that atlas draws speak in the cohort's classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anonsynth.anatomy.heads import is_head
from anonsynth.anatomy.mri import draw_scan
from anonsynth.anatomy.priors import Guarantee
from anonsynth.anatomy.subject import SubjectSettings
from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import BRAIN_LABELS, CohortInfo, GridInfo, LabelEntry, LabelKind, ScanRecord, Split
from anonsynth.cohort.store import Cohort, open_cohort, save_cohort_tables, save_scan
from anonsynth.errors import UsageError
from anonsynth.policies.model import load_policy
from anonsynth.progress import Progress
from anonsynth.synthesis.label_source import choose_label_source, open_prior
from anonsynth.synthesis.preparation import prepare_class_maps, usable_records
from anonsynth.synthesis.settings import PerformanceSettings, PriorChoice, TrainSettings

GRID = Grid((44, 52, 32), (5.0, 5.0, 5.0)).centred()
INTERNAL = load_policy("internal")
TUMOUR = LabelEntry(value=1, name="tumour", kind=LabelKind.TUMOUR)


def write_heads(folder: Path, labels: tuple[LabelEntry, ...], *, tumour_only: bool) -> Cohort:
    """A cohort of three simulated heads on a coarse grid."""
    records = []
    for index in range(3):
        scan = draw_scan(GRID, SubjectSettings(head=True, tumour=True), np.random.default_rng(index))
        label = np.isin(scan.label, (4, 5, 6)).astype(np.uint8) if tumour_only else scan.label
        drawn = dict(scan.images)
        images = [(name, np.clip(drawn[name] / np.quantile(drawn[name], 0.995), 0, 1)) for name in ("T1w", "FLAIR")]
        name = f"P{index + 1:04d}"
        save_scan(folder / "scans" / f"{name}-S01", GRID, images, label)
        records.append(
            ScanRecord(
                scan=f"{name}-S01",
                patient=name,
                split=Split.TRAIN if index else Split.HOLDOUT,
                modalities=("T1w", "FLAIR"),
                labelled=True,
                fov_low=(0, 0, 0),
                fov_high=GRID.shape,
                sha256="0",
            )
        )
    info = CohortInfo(
        anonsynth="0",
        layout="made by the tests",
        policy="internal",
        seed=0,
        holdout_fraction=0.3,
        modalities=("T1w", "FLAIR"),
        labels=labels,
        grid=GridInfo(shape=GRID.shape, spacing=GRID.spacing),
        grid_given=True,
        interpolation="linear",
        patients=3,
        scans=3,
        quarantined=0,
        merged_duplicates=0,
        settings_sha256="0",
    )
    save_cohort_tables(folder, info, records)
    return open_cohort(folder)


@pytest.fixture(scope="module")
def tumours_only(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_heads(tmp_path_factory.mktemp("tumours") / "cohort", (TUMOUR,), tumour_only=True)


def test_simulated_heads_are_taken_for_heads_and_other_things_are_not(tumours_only: Cohort) -> None:
    scan = tumours_only.load(tumours_only.records[0])
    assert is_head(scan.image[0], GRID.spacing)
    assert not is_head(scan.image[0], (2.0, 2.0, 2.0))  # the size of a fist
    assert not is_head(np.ones(GRID.shape, np.float32), GRID.spacing)  # fills its box, as a pelvis does
    assert not is_head(np.zeros(GRID.shape, np.float32), GRID.spacing)
    lopsided = scan.image[0].copy()
    lopsided[GRID.shape[0] // 2 :] *= 0.3
    assert not is_head(lopsided, GRID.spacing)


def test_labelled_brains_get_the_atlas_in_their_own_values(tmp_path: Path) -> None:
    cohort = write_heads(tmp_path / "cohort", BRAIN_LABELS, tumour_only=False)
    source = choose_label_source(cohort, PriorChoice.AUTO, INTERNAL)
    assert source.prior is PriorChoice.ATLAS
    assert source.head
    assert not source.filled
    prior = open_prior(source, GRID, tmp_path)
    assert prior.guarantee is Guarantee.PUBLIC
    label = source.vocabulary.label_map(prior.draw(np.random.default_rng(0)).label)
    assert set(np.unique(label)) <= {0, *(entry.value for entry in BRAIN_LABELS)}
    assert {1, 2, 3, 7, 8} <= set(np.unique(label))


def test_tumour_cohorts_get_anatomy_beside_their_own_tumour_value(tumours_only: Cohort, tmp_path: Path) -> None:
    source = choose_label_source(tumours_only, PriorChoice.AUTO, INTERNAL)
    assert source.filled
    names = {entry.name: entry.value for entry in source.vocabulary.labels}
    assert names["tumour"] == 1
    assert names["white matter"] == 103
    prior = open_prior(source, GRID, tmp_path)
    label = source.vocabulary.label_map(prior.draw(np.random.default_rng(3)).label)
    assert {1, 101, 102, 103, 107, 108} <= set(np.unique(label))


def test_filled_anatomy_keeps_the_patients_tumour(tumours_only: Cohort, tmp_path: Path) -> None:
    source = choose_label_source(tumours_only, PriorChoice.AUTO, INTERNAL)
    records = usable_records(tumours_only, source)
    settings = TrainSettings(steps=1, label_steps=8, simulated_people=2, batch=1, width=8)
    performance = PerformanceSettings(device="cpu")
    with Progress(quiet=True) as progress:
        folder = prepare_class_maps(
            tumours_only, records, source, tmp_path, "k", settings, performance, torch.device("cpu"), progress
        )
    from anonsynth.synthesis.data import read_class_map

    for record in records:
        label = source.vocabulary.label_map(read_class_map(folder, record.scan))
        assert np.array_equal(label == 1, tumours_only.load(record).label == 1)
        assert len(np.unique(label)) > 2
    assert (tmp_path / "mri_to_label.safetensors").exists()


def test_an_atlas_for_other_anatomy_is_refused(tiny_cohort: Cohort) -> None:
    with pytest.raises(UsageError, match="brain cohort"):
        choose_label_source(tiny_cohort, PriorChoice.ATLAS, INTERNAL)
    assert choose_label_source(tiny_cohort, PriorChoice.AUTO, INTERNAL).prior is PriorChoice.SHAPE
