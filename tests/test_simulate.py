"""`anonsynth simulate`: source data that others can read, reproducible and resumable."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from anonsynth.anatomy.simulate import DOCUMENT, SimulateSettings, simulate
from anonsynth.cli.main import app
from anonsynth.errors import InputError, UsageError
from anonsynth.files import UNFINISHED, read_tsv
from anonsynth.progress import Progress

SPACING = 5.0


def _simulate(settings: SimulateSettings) -> Path:
    return simulate(settings, Progress(quiet=True))


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "out"
    _simulate(SimulateSettings(out, 2, seed=1, formats=("nifti", "dicom"), spacing=SPACING))
    return out


def test_one_folder_per_patient_with_a_file_per_modality(both: Path) -> None:
    names = {path.name for path in (both / "nifti" / "sim-002").iterdir()}
    assert names == {"T1w.nii.gz", "T1gd.nii.gz", "T2w.nii.gz", "FLAIR.nii.gz", "seg.nii.gz"}
    image = nibabel.load(both / "nifti" / "sim-002" / "T1w.nii.gz")
    label = nibabel.load(both / "nifti" / "sim-002" / "seg.nii.gz")
    assert image.shape == label.shape == (31, 38, 31)
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.header.get_zooms(), SPACING)
    known = {int(row["index"]) for row in read_tsv(both / "nifti" / "labels.tsv")}
    assert set(np.unique(np.asarray(label.dataobj))) - {0} <= known
    assert [row["patient"] for row in read_tsv(both / "nifti" / "patients.tsv")] == ["sim-001", "sim-002"]
    assert not (both / UNFINISHED).exists()


def test_dicom_slices_hold_the_same_voxels_in_the_same_place(both: Path) -> None:
    for modality in ("T1w", "T1gd", "T2w", "FLAIR"):
        nifti = nibabel.load(both / "nifti" / "sim-001" / f"{modality}.nii.gz")
        voxels = np.asarray(nifti.dataobj)
        slices = [pydicom.dcmread(path) for path in (both / "dicom/series/sim-001" / modality).iterdir()]
        assert len(slices) == voxels.shape[2]
        assert len({dataset.SOPInstanceUID for dataset in slices}) == len(slices)
        assert len({dataset.SeriesInstanceUID for dataset in slices}) == 1
        for dataset in slices:
            row, column = np.asarray(dataset.ImageOrientationPatient, float).reshape(2, 3)
            # (row, column) of the pixel → LPS → RAS → voxel of the NIfTI file
            for r, c in ((0, 0), (dataset.Rows - 1, 0), (7, 11)):
                down, across = map(float, dataset.PixelSpacing)
                lps = np.asarray(dataset.ImagePositionPatient, float) + row * across * c + column * down * r
                index = np.linalg.inv(nifti.affine) @ [-lps[0], -lps[1], lps[2], 1]
                i, j, k = np.rint(index[:3]).astype(int)
                np.testing.assert_allclose(index[:3], (i, j, k), atol=1e-3)
                assert dataset.pixel_array[r, c] == voxels[i, j, k]


def test_headers_are_invented_and_say_so(both: Path) -> None:
    dataset = pydicom.dcmread(both / "dicom/series/sim-001/T1gd/0001.dcm")
    assert dataset.SyntheticData == "YES"
    assert str(dataset.PatientName).startswith("SIMULATED^")
    assert dataset.PatientID == "sim-001"
    assert dataset.ContrastBolusAgent
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    studies = {
        pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID
        for path in (both / "dicom/series/sim-001").rglob("0001.dcm")
    }
    assert len(studies) == 1
    label = nibabel.load(both / "dicom/labels/sim-001.nii.gz")
    beside = nibabel.load(both / "nifti/sim-001/seg.nii.gz")
    np.testing.assert_array_equal(label.dataobj, beside.dataobj)


def test_the_seed_decides_every_byte(tmp_path: Path, both: Path) -> None:
    again = _simulate(SimulateSettings(tmp_path / "again", 1, seed=1, spacing=SPACING))
    other = _simulate(SimulateSettings(tmp_path / "other", 1, seed=2, spacing=SPACING))
    assert _contents(again / "sim-001") == _contents(both / "nifti" / "sim-001")
    assert _contents(again / "sim-001") != _contents(other / "sim-001")


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = SimulateSettings(tmp_path, 2, spacing=6.0, tumour=False)
    _simulate(settings)
    expected = _contents(tmp_path)
    (tmp_path / "sim-002" / "T1w.nii.gz").unlink()
    (tmp_path / "sim-002").rename(tmp_path / ".sim-002.partial")
    (tmp_path / UNFINISHED).touch()
    untouched = (tmp_path / "sim-001" / "T1w.nii.gz").stat().st_mtime_ns
    _simulate(settings)
    assert _contents(tmp_path) == expected
    assert (tmp_path / "sim-001" / "T1w.nii.gz").stat().st_mtime_ns == untouched


def test_other_settings_do_not_mix_into_the_folder(tmp_path: Path) -> None:
    _simulate(SimulateSettings(tmp_path, 1, spacing=6.0))
    with pytest.raises(InputError, match="other settings"):
        _simulate(SimulateSettings(tmp_path, 1, spacing=6.0, seed=9))


def test_missing_modalities_are_left_out_but_never_all(tmp_path: Path) -> None:
    root = _simulate(SimulateSettings(tmp_path, 6, spacing=8.0, missing=0.6))
    counts = [len(list(folder.glob("[TF]*.nii.gz"))) for folder in root.glob("sim-*")]
    assert len(counts) == 6
    assert min(counts) >= 1
    assert sum(counts) < 24


@pytest.mark.parametrize(
    "wrong",
    [{"patients": 0}, {"formats": ("mha",)}, {"formats": ()}, {"spacing": 0.1}, {"missing": 1.0}],
)
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SimulateSettings(**{"out": tmp_path, "patients": 1} | wrong)  # type: ignore[arg-type]


def test_the_command_prints_one_object_and_the_next_step(tmp_path: Path) -> None:
    arguments = ["simulate", "--out", str(tmp_path / "s"), "-n", "1", "--spacing", "8", "--head", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "schema": "anonsynth/simulate/1",
        "source": str(tmp_path / "s"),
        "patients": 1,
        "formats": "nifti",
    }
    assert "anonsynth ingest" in result.stderr
    assert (tmp_path / "s" / DOCUMENT).is_file()
