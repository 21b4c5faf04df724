"""What the tests share: where the real scans are, and a tiny cohort made of nothing but numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.model import CohortInfo, GridInfo, LabelEntry, LabelKind, ScanRecord, Split
from anonsynth.cohort.store import Cohort, open_cohort, save_cohort_tables, save_scan
from anonsynth.files import sha256_file

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

# A busy machine is no reason to fail: examples have no time limit of their own.
settings.register_profile("anonsynth", deadline=None)
settings.load_profile("anonsynth")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scans beside the repository; tests that need them are skipped where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the real scans (../shared/data) are not on this machine")
    return SHARED


def make_tiny_cohort(folder: Path, *, patients: int = 12, holdout: int = 4, seed: int = 0) -> Cohort:
    """Write a cohort of ellipsoids with a bright tumour: two modalities, (24, 28, 20) voxels of 2 mm."""
    shape = (24, 28, 20)
    grid = Grid(shape, (2.0, 2.0, 2.0)).centred()
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    records = []
    for index in range(patients):
        rng = np.random.default_rng([seed, index])
        radii = rng.uniform(0.6, 0.9, 3)
        inside = sum((axis / radius) ** 2 for axis, radius in zip(axes, radii, strict=True)) < 1
        centre = rng.uniform(-0.4, 0.4, 3)
        tumour = inside & (sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < rng.uniform(0.03, 0.1))
        label = inside.astype(np.uint8) + tumour
        base = rng.uniform(0.35, 0.5) * inside
        images = []
        for name, contrast in (("T1w", -0.2), ("FLAIR", 0.4)):
            if name == "FLAIR" and index == 1:
                continue
            image = np.clip(base + contrast * tumour + rng.normal(0, 0.03, shape) * inside, 0, 1).astype(np.float32)
            images.append((name, image))
        patient = f"P{index + 1:04d}"
        written = save_scan(folder / "scans" / f"{patient}-S01", grid, images, label)
        records.append(
            ScanRecord(
                scan=f"{patient}-S01",
                patient=patient,
                split=Split.HOLDOUT if index >= patients - holdout else Split.TRAIN,
                modalities=tuple(name for name, _ in images),
                labelled=True,
                fov_low=(0, 0, 0),
                fov_high=shape,
                sha256=sha256_file(written[0]),
            )
        )
    info = CohortInfo(
        anonsynth="0",
        layout="made by the tests",
        policy="internal",
        seed=seed,
        holdout_fraction=holdout / patients,
        modalities=("T1w", "FLAIR"),
        labels=(LabelEntry(value=1, name="body"), LabelEntry(value=2, name="tumour", kind=LabelKind.TUMOUR)),
        grid=GridInfo(shape=shape, spacing=(2.0, 2.0, 2.0)),
        grid_given=True,
        interpolation="linear",
        patients=patients,
        scans=patients,
        quarantined=0,
        merged_duplicates=0,
        settings_sha256="0" * 64,
    )
    save_cohort_tables(folder, info, records)
    return open_cohort(folder)


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Twelve patients, four of them holdout."""
    return make_tiny_cohort(tmp_path_factory.mktemp("tiny") / "cohort")
