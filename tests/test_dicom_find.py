"""From folders of DICOM to scans: what is taken, what is refused and why, and that nothing private is said aloud."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_making import Made, rotation, save
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from anonsynth.cohort.dicom import find_dicom
from anonsynth.cohort.sources import SourceFindings

OBLIQUE = rotation((0.3, -0.2, 0.5))


def found_in(folder: Path) -> SourceFindings:
    return find_dicom([folder])


def only_reason(findings: SourceFindings) -> str:
    """No scan, one refusal: return its reason."""
    assert not findings.scans
    [refusal] = findings.refusals
    assert refusal.remedy
    return refusal.reason


def test_series_of_a_study_are_the_modalities_of_one_scan_wherever_their_files_are(tmp_path: Path) -> None:
    t1 = Made(turn=OBLIQUE, tags={"SeriesNumber": 2})
    descriptions = {4: "t1_mprage post gd", 5: "t2_tse_tra", 7: "Ax FLAIR"}
    others = [
        replace(t1, series=generate_uid(), seed=number, tags={"SeriesNumber": number, "SeriesDescription": words})
        for number, words in descriptions.items()
    ]
    for made in (t1, *others):
        made.write(tmp_path / "parts", prefix=f"{made.seed}", suffix="")
    # Files of all series lie in nested folders, without extensions, in no order.
    for number, path in enumerate(sorted((tmp_path / "parts").iterdir())):
        target = tmp_path / "in" / f"{number % 3}" / f"{(number * 7919) % 101:03d}-{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    (tmp_path / "in" / "notes.txt").write_text("not DICOM")
    (tmp_path / "in" / "picture.png").write_bytes(b"\x89PNG\r\n")
    findings = found_in(tmp_path / "in")
    assert findings.refusals == ()
    [scan] = findings.scans
    assert scan.session == t1.study
    assert scan.patient.startswith("somebody")
    assert [name for name, _ in scan.modalities] == ["T1w", "T1gd", "T2w", "FLAIR"]
    for (_, volume), made in zip(scan.modalities, (t1, *others), strict=True):
        assert np.array_equal(volume.read().array, made.array)


def test_patients_and_studies_are_kept_apart(tmp_path: Path) -> None:
    for person in ("a", "b"):
        for visit in range(2):
            Made(tags={"PatientID": person}).write(tmp_path / f"{person}{visit}")
    Made(tags={"PatientID": "a", "IssuerOfPatientID": "elsewhere"}).write(tmp_path / "issuer")
    Made(tags={"PatientID": None, "PatientBirthDate": "19500101"}).write(tmp_path / "named")
    Made(tags={"PatientID": "", "PatientName": ""}).write(tmp_path / "unknown")
    scans = found_in(tmp_path).scans
    assert len(scans) == 7
    assert len({scan.session for scan in scans}) == 7
    assert len({scan.patient for scan in scans}) == 5


def _drop(number: int) -> Callable[[Path], None]:
    return lambda folder: sorted(folder.iterdir())[number].unlink()


def _copy_one(folder: Path) -> None:
    shutil.copy(sorted(folder.iterdir())[3], folder / "copy")


def _again_with_new_uid(folder: Path) -> None:
    dataset = pydicom.dcmread(sorted(folder.iterdir())[3])
    dataset.SOPInstanceUID = generate_uid()
    save(dataset, folder / "again")


def _turn_half(folder: Path) -> None:
    for path in sorted(folder.iterdir())[::2]:
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        dataset.save_as(path)


def _turn_one(folder: Path) -> None:
    path = min(folder.iterdir())
    dataset = pydicom.dcmread(path)
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    dataset.save_as(path)


def _resize_one(folder: Path) -> None:
    path = min(folder.iterdir())
    dataset = pydicom.dcmread(path)
    dataset.PixelSpacing = [2.0, 2.0]
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("tags", "harm", "reason"),
    [
        ({}, _drop(4), "a slice is missing"),
        ({}, _copy_one, "a slice is there more than once"),
        ({}, _again_with_new_uid, "a slice is there more than once"),
        ({}, _turn_half, "a localiser"),
        ({}, _turn_one, "the slices have several orientations"),
        ({}, _resize_one, "the slices have different sizes"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, None, "a localiser"),
        ({"SeriesDescription": "3-plane scout"}, None, "a localiser"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, None, "a phase image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}, None, "a phase image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"]}, None, "the real part of a complex image"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}, None, "a derived map"),
        ({"ImageType": ["DERIVED", "SECONDARY", "FA"]}, None, "a derived map"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE", "MIP"]}, None, "a derived map or projection"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, None, "a mosaic"),
        ({"Modality": "CT", "SOPClassUID": CTImageStorage}, None, "a CT series, not MR"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "MR"}, None, "a secondary capture"),
        ({"SOPClassUID": MultiFrameTrueColorSecondaryCaptureImageStorage}, None, "a secondary capture"),
        ({"SOPClassUID": EnhancedSRStorage, "Modality": "SR"}, None, "a structured report"),
        ({"SOPClassUID": EncapsulatedPDFStorage, "Modality": "DOC"}, None, "a report (PDF)"),
        ({"SOPClassUID": GrayscaleSoftcopyPresentationStateStorage, "Modality": "PR"}, None, "a presentation state"),
        ({"SOPClassUID": SegmentationStorage, "Modality": "SEG"}, None, "a segmentation object"),
        ({"ImagePositionPatient": None}, None, "a slice does not say where it is"),
        ({"ImageOrientationPatient": None}, None, "the slices do not say how they are oriented"),
        ({"PixelSpacing": None}, None, "the slices do not say how large a pixel is"),
    ],
)
def test_what_is_no_volume_of_anatomy_is_left_out_with_its_reason(
    tags: dict[str, object], harm: Callable[[Path], None] | None, reason: str, tmp_path: Path
) -> None:
    Made(tags=tags).write(tmp_path / "bad")
    if harm is not None:
        harm(tmp_path / "bad")
    assert only_reason(found_in(tmp_path / "bad")).startswith(reason)
    Made(tags={"PatientID": "other"}).write(tmp_path / "good")
    findings = found_in(tmp_path)
    assert len(findings.scans) == 1
    assert len(findings.refusals) == 1


def test_ge_phase_is_known_by_its_private_tag(tmp_path: Path) -> None:
    def phase(dataset: Dataset, index: int) -> None:  # noqa: ARG001
        dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", 1)

    Made(
        tags={"Manufacturer": "GE MEDICAL SYSTEMS", "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}, change=phase
    ).write(tmp_path)
    assert only_reason(found_in(tmp_path)) == "a phase image"


@pytest.mark.parametrize(
    "tags", [{"ImageType": ["DERIVED", "PRIMARY", "M", "ND", "NORM", "DIS2D"]}, {"ImageType": None}]
)
def test_primary_derived_images_stay(tags: dict[str, object], tmp_path: Path) -> None:
    Made(tags=tags).write(tmp_path)
    assert len(found_in(tmp_path).scans) == 1


def test_few_slices_are_no_volume(tmp_path: Path) -> None:
    Made(shape=(6, 5, 1)).write(tmp_path / "one")
    Made(shape=(6, 5, 2)).write(tmp_path / "two")
    reasons = {refusal.reason for refusal in found_in(tmp_path).refusals}
    assert reasons == {"a single slice, not a volume", "only 2 slices, not a volume"}


@pytest.mark.parametrize("tag", ["TemporalPositionIdentifier", "AcquisitionNumber", "DiffusionBValue", "TriggerTime"])
def test_a_series_that_visits_its_places_again_is_4d(tag: str, tmp_path: Path) -> None:
    made = Made()
    made.write(tmp_path, prefix="a")

    def later(dataset: Dataset, index: int) -> None:  # noqa: ARG001
        setattr(dataset, tag, 7)

    replace(made, change=later).write(tmp_path, prefix="b")
    assert only_reason(found_in(tmp_path)) == "a 4-D series: 2 volumes at the same place"


def test_a_4d_series_cut_short_is_not_taken_for_doubled_slices(tmp_path: Path) -> None:
    made = Made()
    made.write(tmp_path, prefix="a")
    for path in replace(made, tags={"AcquisitionNumber": 2}).write(tmp_path, prefix="b")[-2:]:
        path.unlink()
    assert only_reason(found_in(tmp_path)) == "a 4-D series that was not completed"


def test_echoes_are_volumes_of_their_own(tmp_path: Path) -> None:
    made = Made(tags={"SeriesDescription": "pd+t2 tse", "ScanningSequence": "SE", "EchoTime": 15.0})
    made.write(tmp_path, prefix="a")
    second = replace(made, tags={**made.tags, "EchoTime": 95.0}, seed=1)
    second.write(tmp_path, prefix="b")
    findings = found_in(tmp_path)
    [scan] = findings.scans
    assert [name for name, _ in scan.modalities] == ["PDw", "T2w"]
    assert np.array_equal(scan.modalities[1][1].read().array, second.array)
    assert not findings.refusals


def test_magnitude_is_kept_and_phase_refused_where_both_are_in_one_series(tmp_path: Path) -> None:
    made = Made(tags={"SeriesDescription": "gre_field_mapping", "EchoTime": 12.0})
    made.write(tmp_path, prefix="m")
    replace(made, tags={**made.tags, "ImageType": ["ORIGINAL", "PRIMARY", "P"]}).write(tmp_path, prefix="p")
    findings = found_in(tmp_path)
    assert [name for name, _ in findings.scans[0].modalities] == ["fieldmap"]
    assert [refusal.reason for refusal in findings.refusals] == ["a phase image"]


def test_of_several_series_with_one_contrast_the_best_is_kept(tmp_path: Path) -> None:
    coarse = Made(shape=(12, 10, 8))
    fine = Made(shape=(12, 10, 16), spacing=(1, 1, 1), study=coarse.study)
    reformatted = Made(shape=(12, 10, 30), study=coarse.study, tags={"ImageType": ["DERIVED", "SECONDARY", "MPR"]})
    for name, made in (("a", coarse), ("b", fine), ("c", reformatted)):
        made.write(tmp_path / name)
    findings = found_in(tmp_path)
    [scan] = findings.scans
    [(name, volume)] = scan.modalities
    assert name == "T1w"
    assert volume.path.parent == tmp_path / "b"
    assert len(findings.refusals) == 2
    assert all("same contrast (T1w)" in refusal.reason for refusal in findings.refusals)


def test_a_second_copy_of_a_whole_series_is_left_out(tmp_path: Path) -> None:
    Made().write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "backup")
    findings = found_in(tmp_path)
    assert len(findings.scans) == 1
    [refusal] = findings.refusals
    assert refusal.reason.startswith("the same images are there more than once")
    assert refusal.path.parent == tmp_path / "backup"
    assert find_dicom([tmp_path / "a", tmp_path / "a"]).refusals == ()


def test_discovery_reads_no_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made().write(tmp_path)
    whole = pydicom.dcmread
    asked = []
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **named: (asked.append(named), whole(*args, **named))[1])
    [scan] = found_in(tmp_path).scans
    assert len(asked) == 8
    assert all(named["stop_before_pixels"] for named in asked)
    assert "PixelData" not in repr(scan)


def test_nothing_private_is_said_aloud(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    Made(tags={"PatientID": "Secret"}).write(tmp_path)
    for path in tmp_path.iterdir():
        # A value that the standard forbids, and pydicom quotes in a warning.
        path.write_bytes(path.read_bytes().replace(b"3.0 ", b"Secr"))
    findings = found_in(tmp_path)
    for scan in findings.scans:
        scan.modalities[0][1].read()
    out, err = capfd.readouterr()
    said = out + err + caplog.text + "".join(str(warning.message) for warning in recwarn) + findings.layout
    said += "".join(refusal.reason + refusal.remedy for refusal in findings.refusals)
    assert "Secr" not in said
    assert not recwarn.list


def test_unreadable_folders_and_missing_roots_are_no_exception(tmp_path: Path) -> None:
    assert find_dicom([tmp_path / "nowhere"]).scans == ()
    assert [refusal.reason for refusal in find_dicom([tmp_path / "nowhere"]).refusals] == ["the folder cannot be read"]


def test_the_same_folder_gives_the_same_findings(tmp_path: Path) -> None:
    Made().write(tmp_path / "a")
    Made().write(tmp_path / "b")
    assert found_in(tmp_path) == found_in(tmp_path)
