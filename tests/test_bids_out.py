"""A substitute cohort is a valid BIDS dataset, comes back as it was written, and resumes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anonsynth.cohort.geometry import Grid
from anonsynth.cohort.layouts import find_nifti
from anonsynth.cohort.model import LabelEntry, LabelKind
from anonsynth.cohort.store import Cohort
from anonsynth.errors import UsageError
from anonsynth.files import UNFINISHED, read_tsv, sha256_file
from anonsynth.policies.model import load_policy
from anonsynth.progress import Progress
from anonsynth.release.bids import IMAGE_SCALE, BidsWriter, ParticipantRow
from anonsynth.release.substitute import generate
from anonsynth.synthesis.settings import GenerateSettings, PerformanceSettings, TrainSettings
from anonsynth.synthesis.train import train

LABELS = (LabelEntry(value=1, name="CSF"), LabelEntry(value=4, name="oedema", kind=LabelKind.TUMOUR))
MODALITIES = ("T1w", "T1gd", "T2w", "FLAIR", "image")


def validator() -> str:
    return shutil.which("bids-validator-deno") or str(Path(sysconfig.get_path("scripts")) / "bids-validator-deno")


def assert_valid_bids(folder: Path) -> None:
    done = subprocess.run([validator(), str(folder), "--format", "json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    errors = [issue for issue in issues if issue["severity"] == "error"]
    assert done.returncode == 0, errors[:5]
    assert not errors, errors[:5]


@pytest.fixture(scope="module")
def model(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = TrainSettings(steps=2, batch=2, width=8, style=4)
    out = tmp_path_factory.mktemp("bids") / "model"
    with Progress(quiet=True) as progress:
        return train(tiny_cohort, settings, load_policy("internal"), out, PerformanceSettings(device="cpu"), progress)


@pytest.mark.parametrize("session", [None, "ses-style01"])
def test_every_modality_is_valid_and_comes_back(tmp_path: Path, session: str | None) -> None:
    grid = Grid((12, 14, 10), (1.0, 1.5, 3.0)).centred()
    rng = np.random.default_rng(0)
    image = rng.random((len(MODALITIES), *grid.shape), np.float32)
    label = rng.choice(np.array([0, 1, 4], np.uint8), grid.shape)
    writer = BidsWriter(tmp_path / "set", grid, MODALITIES, LABELS)
    writer.write_scan("sub-synth0001", session, image, label, {"LabelRecipe": {"prior": "atlas"}, "StyleSeed": 1})
    writer.write_tables([ParticipantRow("sub-synth0001", 1, "atlas")], "test")
    assert_valid_bids(tmp_path / "set")

    for name, channel in zip(MODALITIES, image, strict=True):
        back = nib.load(writer.image_path("sub-synth0001", session, name))
        assert np.abs(back.get_fdata() - channel).max() <= 0.5 / IMAGE_SCALE + 1e-6
        assert np.allclose(back.affine, grid.affine)
    found = find_nifti(tmp_path / "set")
    (scan,) = found.scans
    assert scan.label is not None
    assert np.array_equal(np.asarray(scan.label.read().array), label)
    assert {name for name, _ in scan.modalities} >= {"T1w", "T1gd", "T2w", "FLAIR"}
    assert found.labels[4].kind is LabelKind.TUMOUR


def test_the_same_scan_has_the_same_bytes(tmp_path: Path) -> None:
    grid = Grid((8, 8, 8), (1.0, 1.0, 1.0))
    image, label = np.ones((1, 8, 8, 8), np.float32), np.zeros((8, 8, 8), np.uint8)
    hashes = set()
    for name in ("a", "b"):
        writer = BidsWriter(tmp_path / name, grid, ("T1w",), LABELS)
        writer.write_scan("sub-synth0001", None, image, label, {})
        hashes.add(sha256_file(writer.image_path("sub-synth0001", None, "T1w")))
    assert len(hashes) == 1


def test_generate_writes_a_valid_cohort_resumes_and_refuses_other_settings(model: Path, tmp_path: Path) -> None:
    settings = GenerateSettings(model=model, out=tmp_path / "synthetic", count=3, styles=2, seed=5)
    with Progress(quiet=True) as progress:
        generate(settings, progress)
        assert_valid_bids(settings.out)
        hashes = {p.name: sha256_file(p) for p in settings.out.rglob("*.nii.gz")}
        assert len(hashes) == 3 * 2 * 3
        rows = read_tsv(settings.out / "participants.tsv")
        assert [row["synthetic"] for row in rows] == ["true"] * 3

        # As after kill -9: one participant is missing and the folder says that it is unfinished.
        shutil.rmtree(settings.out / "derivatives" / "labels" / "sub-synth0002")
        (settings.out / UNFINISHED).touch()
        generate(settings, progress)
        assert {p.name: sha256_file(p) for p in settings.out.rglob("*.nii.gz")} == hashes
        assert not (settings.out / UNFINISHED).exists()
        with pytest.raises(UsageError, match="other settings"):
            generate(settings.model_copy(update={"seed": 6}), progress)


def test_two_styles_share_the_label_map_and_differ_in_the_image(model: Path, tmp_path: Path) -> None:
    settings = GenerateSettings(model=model, out=tmp_path / "s", count=1, styles=2, seed=1)
    with Progress(quiet=True) as progress:
        generate(settings, progress)
    one, two = (settings.out / "sub-synth0001" / f"ses-style0{n}" / "anat" for n in (1, 2))
    labels = settings.out / "derivatives" / "labels" / "sub-synth0001"
    a, b = (nib.load(next(labels.rglob(f"*style0{n}_dseg.nii.gz"))).get_fdata() for n in (1, 2))
    assert np.array_equal(a, b)
    first, second = (nib.load(next(folder.glob("*FLAIR.nii.gz"))).get_fdata() for folder in (one, two))
    assert not np.array_equal(first, second)


def test_no_source_string_is_in_the_substitute_cohort(model: Path, tiny_cohort: Cohort, tmp_path: Path) -> None:
    settings = GenerateSettings(model=model, out=tmp_path / "s", count=1, seed=1)
    with Progress(quiet=True) as progress:
        generate(settings, progress)
    private = [str(tiny_cohort.folder), *(record.scan for record in tiny_cohort.records)]
    for path in settings.out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(secret.encode() in data for secret in private), path.name
