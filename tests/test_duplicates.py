"""The same image under two identifiers is found however it was saved, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_sources import RAS, head, images_and_labels, save
from scipy import ndimage

from anonsynth.cohort.duplicates import alike_pairs, groups
from anonsynth.cohort.ingest import IngestSettings, ingest
from anonsynth.cohort.store import Cohort
from anonsynth.errors import InputError
from anonsynth.files import read_tsv
from anonsynth.policies.model import CohortRules, Duplicates, Policy
from anonsynth.progress import Progress

MERGE = Policy(id="test", title="t", description="d")
REFUSE = MERGE.model_copy(update={"cohort": CohortRules(duplicates=Duplicates.REFUSE)})


def run(source: Path, out: Path, policy: Policy = MERGE) -> Cohort:
    return ingest(IngestSettings((source,), out), policy, Progress(quiet=True))


def disguises(image: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The image of case00, saved again in ways that change every byte."""
    rng = np.random.default_rng(1)
    flip = np.diag([-1.0, 1.0, 1.0, 1.0]) @ RAS
    flip[0, 3] = 2.0 * (image.shape[0] - 1)
    moved = RAS.copy()
    moved[:3, 3] = [100, -50, 3]
    return {
        "equal": (image.copy(), RAS),
        "other type": (image.astype(np.float32), RAS),
        "other axes": (image[::-1].copy(), flip),
        "other place": (image, moved),
        "rescaled": (image.astype(np.float32) * 3.7, RAS),
        "padded": (np.pad(image, 4), RAS),
        "a little noise": (np.where(image > 0, image + rng.normal(0, 6, image.shape), 0).astype(np.float32), RAS),
    }


@pytest.mark.parametrize("disguise", list(disguises(head(0)[0])))
def test_a_copy_is_merged_under_one_patient(tmp_path: Path, disguise: str) -> None:
    source = images_and_labels(tmp_path / "source", 5)
    array, affine = disguises(head(0)[0])[disguise]
    save(source / "images/other.nii.gz", array, affine)
    cohort = run(source, tmp_path / "cohort")
    assert (cohort.info.patients, cohort.info.scans, cohort.info.merged_duplicates) == (5, 5, 1)
    rows = read_tsv(tmp_path / "cohort/duplicates.tsv")
    assert [{row["file"], row["same_as"]} for row in rows] == [{"images/case00.nii.gz", "images/other.nii.gz"}]
    assert rows[0]["kind"] == ("equal" if disguise in ("equal", "other type", "other axes", "other place") else "alike")
    assert all(record.labelled for record in cohort.records)


def test_the_policy_can_refuse_both(tmp_path: Path) -> None:
    source = images_and_labels(tmp_path / "source", 6)
    save(source / "images/other.nii.gz", head(0)[0])
    cohort = run(source, tmp_path / "cohort", REFUSE)
    assert (cohort.info.patients, cohort.info.merged_duplicates) == (5, 0)
    refused = {row["file"] for row in read_tsv(tmp_path / "cohort/quarantine.tsv")}
    assert refused == {"images/case00.nii.gz", "images/other.nii.gz"}
    with pytest.raises(InputError, match="only 3 patients are usable and the policy needs 4"):
        run(images_and_labels(tmp_path / "few", 3), tmp_path / "none")


def test_a_shared_image_makes_one_patient_of_two_with_other_images_too(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"s/p{number}/t1.nii.gz", head(number)[0])
        save(tmp_path / f"s/p{number}/flair.nii.gz", head(50 + number)[0])
    save(tmp_path / "s/p9/t1.nii.gz", head(0)[0])
    save(tmp_path / "s/p9/flair.nii.gz", head(99)[0])
    cohort = run(tmp_path / "s", tmp_path / "cohort")
    assert (cohort.info.patients, cohort.info.scans) == (5, 6)


def test_identity_is_transitive_and_fingerprints_are_compared_across_blocks() -> None:
    assert groups(["a", "b", "c", "d"], [("d", "b"), ("b", "a")]) == {"a": "a", "b": "a", "c": "c", "d": "a"}
    vectors = np.random.default_rng(0).normal(size=(600, 1728)).astype(np.float32)
    vectors[599] = vectors[3]
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert list(alike_pairs(vectors)) == [(3, 599)]


@pytest.mark.shared_data
def test_two_scans_of_one_person_are_not_one_image_but_a_resampled_copy_is(shared_data: Path, tmp_path: Path) -> None:
    for name in ("1003", "1023", "1004", "1024"):
        image = nib.load(shared_data / f"oasis/{name}_SS.nii.gz")
        small = np.asarray(image.dataobj, np.float32)[::2, ::2, ::2]
        affine = image.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        save(tmp_path / f"s/{name}.nii.gz", small, affine)
    assert run(tmp_path / "s", tmp_path / "cohort").info.merged_duplicates == 0
    coarse = ndimage.zoom(small, 0.75, order=1, grid_mode=True, mode="nearest")
    save(tmp_path / "s/copy.nii.gz", coarse, affine @ np.diag([4 / 3, 4 / 3, 4 / 3, 1.0]))
    assert run(tmp_path / "s", tmp_path / "again").info.merged_duplicates == 1
