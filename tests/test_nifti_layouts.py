"""Every layout, by small sources written by hand: who is a patient, what is a modality, which file is the label map."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from anonsynth.cohort.label_folder import attach_labels
from anonsynth.cohort.layout_base import LayoutOptions
from anonsynth.cohort.layout_names import label_word, split_visits
from anonsynth.cohort.layouts import find_nifti
from anonsynth.cohort.lookup import name_labels
from anonsynth.cohort.model import LabelKind
from anonsynth.cohort.sources import SourceFindings
from anonsynth.errors import InputError, UsageError


def touch(root: Path, *names: str) -> Path:
    """Layouts read names only, so empty files will do."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def seen(findings: SourceFindings) -> dict[tuple[str, str], tuple[set[str], str | None]]:
    """Return (patient, session) → modalities and the label file's name."""
    return {
        (scan.patient, scan.session): (
            {name for name, _ in scan.modalities},
            scan.label.path.name if scan.label else None,
        )
        for scan in findings.scans
    }


def test_images_and_labels(tmp_path: Path) -> None:
    touch(tmp_path, "images/a1.nii.gz", "images/a2.nii.gz", "labels/a1.nii.gz", "labels/a3.nii.gz")
    findings = find_nifti(tmp_path)
    assert findings.layout == "images/ beside labels/"
    assert seen(findings) == {("a1", ""): ({"image"}, "a1.nii.gz"), ("a2", ""): ({"image"}, None)}
    assert [refusal.path.name for refusal in findings.refusals] == ["a3.nii.gz"]


def test_a_single_modality_gets_the_name_the_user_gives(tmp_path: Path) -> None:
    touch(tmp_path, "images/a1.nii.gz", "labels/a1.nii.gz")
    assert seen(find_nifti(tmp_path, options=LayoutOptions("t1")))["a1", ""][0] == {"T1w"}


def test_decathlon_with_label_names(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/la_003.nii.gz", "labelsTr/la_003.nii.gz", "imagesTs/la_004.nii.gz")
    labels = {"0": "background", "1": "left atrium", "2": "edema"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "T2"}, "labels": labels}))
    findings = find_nifti(tmp_path)
    assert seen(findings) == {("la_003", ""): ({"T2w"}, "la_003.nii.gz"), ("la_004", ""): ({"T2w"}, None)}
    assert {value: entry.kind for value, entry in findings.labels.items()} == {
        1: LabelKind.ANATOMY,
        2: LabelKind.TUMOUR,
    }


def test_nnunet_channels(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/b1_0000.nii.gz", "imagesTr/b1_0001.nii.gz", "labelsTr/b1.nii.gz")
    (tmp_path / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "FLAIR", "1": "T1ce"}, "labels": {"wt": 1}})
    )
    assert seen(find_nifti(tmp_path)) == {("b1", ""): ({"FLAIR", "T1gd"}, "b1.nii.gz")}


def test_one_folder_per_patient_with_visits_in_their_names(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"A_19990101/{name}.nii.gz" for name in ("flair", "t1", "t1gd", "mask")),
        *(f"A_20000202/{name}.nii.gz" for name in ("flair", "mask")),
        "B_20010303/flair.nii.gz",
    )
    findings = find_nifti(tmp_path)
    assert seen(findings) == {
        ("A", "19990101"): ({"FLAIR", "T1w", "T1gd"}, "mask.nii.gz"),
        ("A", "20000202"): ({"FLAIR"}, "mask.nii.gz"),
        ("B", "20010303"): ({"FLAIR"}, None),
    }
    assert name_labels({1}, {}, findings.label_words, frozenset())[0].kind is LabelKind.TUMOUR


def test_one_folder_per_patient_with_the_patients_name_in_each_file(tmp_path: Path) -> None:
    for case in ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000"):
        touch(tmp_path, *(f"{case}/{case}-{name}.nii.gz" for name in ("t1c", "t1n", "t2f", "t2w", "seg")))
    found = seen(find_nifti(tmp_path))
    assert set(found) == {("BraTS-GLI-00000", "000"), ("BraTS-GLI-00000", "001"), ("BraTS-GLI-00002", "000")}
    assert found["BraTS-GLI-00002", "000"] == ({"T1gd", "T1w", "FLAIR", "T2w"}, "BraTS-GLI-00002-000-seg.nii.gz")


def test_visits_and_modalities_as_folders(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "data/p1/visit1/T1/x.nii.gz",
        "data/p1/visit1/mask/x.nii.gz",
        "data/p1/visit2/T1/y.nii.gz",
        "data/p2/visit1/T1/z.nii.gz",
    )
    assert seen(find_nifti(tmp_path)) == {
        ("p1", "visit1"): ({"T1w"}, "x.nii.gz"),
        ("p1", "visit2"): ({"T1w"}, None),
        ("p2", "visit1"): ({"T1w"}, None),
    }


def test_many_differently_named_folders_below_a_few_are_patients_below_sites(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{site}/{site}{number}/t1.nii.gz" for site in ("north", "south") for number in range(5)))
    findings = find_nifti(tmp_path)
    assert len(findings.scans) == 10
    assert {scan.group for scan in findings.scans} == {"north", "south"}
    assert findings.notes


def test_a_brain_mask_gives_way_to_another_label_map(tmp_path: Path) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "p1/brain_mask.nii.gz", "p1/seg.nii.gz", "p2/t1.nii.gz")
    assert seen(find_nifti(tmp_path))["p1", ""] == ({"T1w"}, "seg.nii.gz")


def test_flat_pairs(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}_{end}.nii.gz" for n in (1000, 1001, 1002) for end in ("SS", "tissues")))
    assert seen(find_nifti(tmp_path)) == {(str(n), ""): ({"image"}, f"{n}_tissues.nii.gz") for n in (1000, 1001, 1002)}


def test_flat_modalities(tmp_path: Path) -> None:
    touch(tmp_path, *(f"case{n}_{end}.nii.gz" for n in (1, 2) for end in ("t1", "t1_ce", "flair", "adc", "lesion")))
    findings = find_nifti(tmp_path)
    assert seen(findings)["case1", ""] == ({"T1w", "T1gd", "FLAIR", "adc"}, "case1_lesion.nii.gz")
    assert findings.label_words == {"lesion"}


def test_flat_sides_and_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "s1_left.nii.gz", "s1_right.nii.gz", "s2_left.nii.gz", "s2_right.nii.gz")
    assert set(seen(find_nifti(tmp_path))) == {("s1", "left"), ("s1", "right"), ("s2", "left"), ("s2", "right")}
    other = touch(tmp_path / "numbers", "scan_001.nii.gz", "scan_002.nii.gz")
    assert len({scan.patient for scan in find_nifti(other).scans}) == 2


def test_bids_with_derivatives_sessions_contrast_and_lookup(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_ce-gadolinium_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_run-2_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-01/ses-b/func/sub-01_ses-b_task-rest_bold.nii.gz",
        "sub-02/anat/sub-02_FLAIR.nii.gz",
        "derivatives/x/sub-01/ses-a/anat/sub-01_ses-a_dseg.nii.gz",
        "derivatives/x/sub-01/ses-a/anat/sub-01_ses-a_space-MNI152_dseg.nii.gz",
        "derivatives/x/sub-01/ses-a/anat/sub-01_ses-a_desc-brain_mask.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_label-lesion_mask.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_desc-preproc_T1w.nii.gz",
    )
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\nsub-01\tnorth\nsub-02\tsouth\n")
    (tmp_path / "derivatives/x/dseg.tsv").write_text("index\tname\n1\tgrey matter\n5\tenhancing tumour\n")
    findings = find_nifti(tmp_path)
    assert findings.layout == "BIDS"
    assert seen(findings) == {
        ("01", "a"): ({"T1w", "T1gd"}, "sub-01_ses-a_dseg.nii.gz"),
        ("01", "b"): ({"T1w"}, None),
        ("02", ""): ({"FLAIR"}, "sub-02_label-lesion_mask.nii.gz"),
    }
    assert {scan.patient: scan.group for scan in findings.scans} == {"01": "north", "02": "south"}
    assert findings.labels[5].kind is LabelKind.TUMOUR
    assert sorted(refusal.path.name for refusal in findings.refusals) == [
        "sub-01_ses-a_run-2_T1w.nii.gz",
        "sub-01_ses-b_task-rest_bold.nii.gz",
    ]


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_table(tmp_path: Path, separator: str) -> None:
    rows = [
        ["Patient", "modality", "path", "label path", "session", "site"],
        ["A", "t1", "x/1.nii.gz", "x/l.nii.gz", "v1", "north"],
        ["A", "flair", "x/2.nii.gz", "x/l.nii.gz", "v1", "north"],
        ["A", "t1", "x/3.nii.gz", "", "v2", "north"],
        ["B", "t1", "x/4.nii.gz", "n/a", "v1", "south"],
    ]
    table = tmp_path / "scans.csv"
    table.write_text("\n".join(separator.join(row) for row in rows) + "\n", "utf-8-sig")
    findings = find_nifti(table)
    assert seen(findings) == {
        ("A", "v1"): ({"T1w", "FLAIR"}, "l.nii.gz"),
        ("A", "v2"): ({"T1w"}, None),
        ("B", "v1"): ({"T1w"}, None),
    }
    assert findings.scans[-1].group == "south"
    assert findings.scans[0].modalities[0][1].path == tmp_path / "x/1.nii.gz"


def test_a_wide_table_and_one_that_lacks_columns(tmp_path: Path) -> None:
    table = tmp_path / "scans.tsv"
    table.write_text("subject\tT1\tFLAIR\tmask\nA\ta.nii.gz\tb.nii.gz\tm.nii.gz\n")
    assert seen(find_nifti(table)) == {("A", ""): ({"T1w", "FLAIR"}, "m.nii.gz")}
    table.write_text("name\tplace\nA\ta.nii.gz\n")
    with pytest.raises(InputError, match="patient or for the path"):
        find_nifti(table)


def test_patients_table_is_tolerant_and_refuses_what_it_does_not_name(tmp_path: Path) -> None:
    touch(tmp_path / "s", *(f"images/v{n}.nii.gz" for n in range(4)))
    table = tmp_path / "who.tsv"
    table.write_text("Volume\tPatient\tcentre\nv0\tA\tx\nv1.nii.gz\tA\tx\nimages/v2.nii.gz\tB\ty\n")
    findings = find_nifti(tmp_path / "s", patients=table, options=LayoutOptions(group="centre"))
    assert [(scan.patient, scan.group) for scan in findings.scans] == [("A", "x"), ("A", "x"), ("B", "y")]
    assert [refusal.path.name for refusal in findings.refusals] == ["v3.nii.gz"]
    with pytest.raises(UsageError, match="--group"):
        find_nifti(tmp_path / "s", patients=table, options=LayoutOptions(group="scanner"))
    table.write_text("volume\tpatient\nv0\tA\nv0\tB\n")
    with pytest.raises(InputError, match="two patients"):
        find_nifti(tmp_path / "s", patients=table)


def test_labels_from_another_folder(tmp_path: Path) -> None:
    touch(tmp_path / "s", "p1/t1.nii.gz", "p2/t1.nii.gz", "p3/t1.nii.gz")
    touch(tmp_path / "l", "p1.nii.gz", "P2_seg.nii.gz", "p3/mask.nii.gz", "p4.nii.gz")
    findings = attach_labels(find_nifti(tmp_path / "s"), tmp_path / "l")
    assert [scan.label.path.name if scan.label else "" for scan in findings.scans] == [
        "p1.nii.gz",
        "P2_seg.nii.gz",
        "mask.nii.gz",
    ]
    assert [refusal.path.name for refusal in findings.refusals] == ["p4.nii.gz"]


def test_what_is_not_recognised_names_what_is_and_how_to_force_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images-labels .* bids .* patient-folders .* flat .* --layout") as caught:
        find_nifti(touch(tmp_path, "notes.txt"))
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(UsageError, match="no layout 'bidz'"):
        find_nifti(touch(tmp_path, "a.nii"), layout="bidz")
    with pytest.raises(InputError, match="does not exist"):
        find_nifti(tmp_path / "nowhere")


def test_a_layout_can_be_forced(tmp_path: Path) -> None:
    touch(tmp_path, "images/t1.nii.gz", "images/flair.nii.gz", "other/t1.nii.gz")
    assert set(seen(find_nifti(tmp_path, layout="patient-folders"))) == {("images", ""), ("other", "")}


def test_an_unreadable_folder_is_refused_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "p1/t1.nii.gz", "p2/t1.nii.gz")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("p2"):
            raise PermissionError(13, "denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    findings = find_nifti(tmp_path)
    assert [scan.patient for scan in findings.scans] == ["p1"]
    assert [(refusal.path.name, refusal.reason) for refusal in findings.refusals] == [
        ("p2", "the folder cannot be read")
    ]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "store", "x/t1.nii.gz", "y/t1.nii.gz")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/p1").symlink_to(tmp_path / "store/x")
    (tmp_path / "s/p2").symlink_to(tmp_path / "store/y")
    (tmp_path / "store/x/loop").symlink_to(tmp_path / "s")
    assert [scan.patient for scan in find_nifti(tmp_path / "s").scans] == ["p1", "p2"]


def test_names() -> None:
    assert label_word("seg") == "seg"
    assert label_word("masked_t1") is None
    assert split_visits(["OAS1_0001_MR1", "OAS1_0001_MR2", "OAS1_0002_MR1"])["OAS1_0001_MR2"] == ("OAS1_0001", "MR2")
    assert split_visits(["subject_v1", "subject_v2"]) == {
        "subject_v1": ("subject_v1", ""),
        "subject_v2": ("subject_v2", ""),
    }


@pytest.mark.shared_data
def test_the_layouts_of_the_real_cohorts(shared_data: Path) -> None:
    crops = find_nifti(shared_data / "hippocampus", patients=shared_data / "hippocampus/patients.tsv")
    assert (len(crops.scans), len({scan.patient for scan in crops.scans}), crops.refusals) == (198, 130, ())
    assert all(scan.label for scan in crops.scans)
    gliomas = find_nifti(shared_data / "lgg")
    assert (len(gliomas.scans), len({scan.patient for scan in gliomas.scans})) == (63, 63)
    lacking = {
        name: sum(name not in dict(scan.modalities) for scan in gliomas.scans) for name in ("T1w", "T1gd", "FLAIR")
    }
    assert lacking == {"T1w": 4, "T1gd": 5, "FLAIR": 0}
    brains = find_nifti(shared_data / "oasis")
    assert np.all([scan.label is not None for scan in brains.scans])
    assert len(brains.scans) == 18
