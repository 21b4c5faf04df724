"""A cohort comes back from the disk as it was written, and a broken one says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, open_cohort, save_scan
from anonsynth.errors import InputError
from anonsynth.files import begin_folder, sha256_file


@pytest.fixture
def copied(tiny_cohort: Cohort, tmp_path: Path) -> Path:
    """A copy of the tiny cohort that a test may break."""
    return Path(shutil.copytree(tiny_cohort.folder, tmp_path / "cohort"))


def test_a_cohort_comes_back(tiny_cohort: Cohort) -> None:
    again = open_cohort(tiny_cohort.folder)
    assert again.records == tiny_cohort.records
    assert again.info == tiny_cohort.info
    assert again.grid.affine[0, 3] == -(24 - 1) * 2 / 2


def test_the_split_is_by_patient(tiny_cohort: Cohort) -> None:
    train, holdout = (set(tiny_cohort.patients(split)) for split in (Split.TRAIN, Split.HOLDOUT))
    assert not train & holdout
    assert sorted(train | holdout) == list(tiny_cohort.patients())
    assert len(tiny_cohort.of(Split.HOLDOUT)) == 4


def test_a_scan_is_read_with_its_absent_modality_masked(tiny_cohort: Cohort) -> None:
    whole, lacking = (tiny_cohort.load(record) for record in tiny_cohort.records[:2])
    assert whole.image.shape == (2, 24, 28, 20)
    assert whole.image.dtype == np.float32
    assert whole.present.tolist() == [True, True]
    assert 0 <= whole.image.min() < whole.image.max() <= 1
    assert set(np.unique(whole.label)) == {0, 1, 2}
    assert lacking.present.tolist() == [True, False]
    assert not lacking.image[1].any()


def test_voxels_and_grid_survive_the_disk(tiny_cohort: Cohort, tmp_path: Path) -> None:
    scan = tiny_cohort.load(tiny_cohort.records[0])
    written = save_scan(tmp_path / "s", tiny_cohort.grid, [("T1w", scan.image[0])], scan.label)
    assert [path.name for path in written] == ["T1w.nii", "label.nii"]
    image = nib.Nifti1Image.from_filename(written[0])
    np.testing.assert_array_equal(np.asarray(image.dataobj), scan.image[0])
    np.testing.assert_allclose(image.affine, tiny_cohort.grid.affine)
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    again = save_scan(tmp_path / "t", tiny_cohort.grid, [("T1w", scan.image[0])], scan.label)
    assert sha256_file(again[0]) == sha256_file(written[0])


def test_an_unfinished_cohort_says_how_to_go_on(copied: Path) -> None:
    begin_folder(copied)
    with pytest.raises(InputError, match="unfinished; run the same `anonsynth ingest` again"):
        open_cohort(copied)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("scans.tsv", "train", "trian"),
        ("scans.tsv", "fov_low", "low"),
        ("scans.tsv", "24,28,20", "24,28"),
        ("cohort.json", '"seed"', '"sead"'),
        ("cohort.json", "{", "["),
    ],
)
def test_a_broken_table_is_told(copied: Path, name: str, old: str, new: str) -> None:
    path = copied / name
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(InputError):
        open_cohort(copied)


def test_a_folder_that_is_no_cohort_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no cohort\.json"):
        open_cohort(tmp_path)


@pytest.mark.parametrize("harm", ["delete", "empty", "cut"])
def test_a_volume_that_cannot_be_read_is_named_by_its_pseudonym(copied: Path, harm: str) -> None:
    cohort = open_cohort(copied)
    volume = copied / "scans" / "P0001-S01" / "T1w.nii"
    held = volume.read_bytes()
    volume.unlink()
    if harm != "delete":
        volume.write_bytes(b"" if harm == "empty" else held[: len(held) // 2])
    with pytest.raises(InputError, match=r"P0001-S01/T1w\.nii") as caught:
        cohort.load(cohort.records[0])
    assert str(copied) not in str(caught.value)
