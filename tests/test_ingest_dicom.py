"""The same people as DICOM and as NIfTI are the same cohort, label maps from a folder of their own included."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anonsynth.anatomy.simulate import SimulateSettings, simulate
from anonsynth.cohort.ingest import IngestSettings, ingest
from anonsynth.policies.model import Policy
from anonsynth.progress import Progress


def test_dicom_and_nifti_of_the_same_people_are_the_same_cohort(tmp_path: Path) -> None:
    policy, quiet = Policy(id="test", title="t", description="d"), Progress(quiet=True)
    made = tmp_path / "made"
    simulate(SimulateSettings(made, 4, spacing=8.0, formats=("nifti", "dicom")), quiet)
    nifti = ingest(
        IngestSettings((made / "nifti",), tmp_path / "n", patients=made / "nifti/patients.tsv"), policy, quiet
    )
    settings = IngestSettings(
        (made / "dicom/series",),
        tmp_path / "d",
        labels=made / "dicom/labels",
        patients=made / "dicom/patients.tsv",
    )
    dicom = ingest(settings, policy, quiet)
    assert dicom.info.layout.startswith("DICOM")
    assert (dicom.info.grid, dicom.info.labels) == (nifti.info.grid, nifti.info.labels)
    assert dicom.info.modalities == nifti.info.modalities == ("T1w", "T1gd", "T2w", "FLAIR")
    assert {record.group for record in dicom.records} == {record.group for record in nifti.records} != {"n/a"}
    for one, other in zip(dicom.records, nifti.records, strict=True):
        assert (one.scan, one.split, one.group) == (other.scan, other.split, other.group)
        assert np.array_equal(dicom.load(one).label, nifti.load(other).label)
        assert np.abs(dicom.load(one).image - nifti.load(other).image).max() < 1e-3
