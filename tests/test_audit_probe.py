"""Single voxels: read where a pose says, and compared over the same ground for every candidate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_tiny_cohort

from anonsynth.audits.likeness import dependences
from anonsynth.audits.pose import IDENTITY, Pose
from anonsynth.audits.probe import probe, read_at
from anonsynth.audits.views import ViewGrid
from anonsynth.cohort.store import Cohort, Scan


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_tiny_cohort(tmp_path_factory.mktemp("probe") / "cohort")


@pytest.fixture(scope="module")
def grid(cohort: Cohort) -> ViewGrid:
    return ViewGrid(cohort.grid.shape, cohort.grid.spacing, (1, 2))


def _with_air(scan: Scan) -> Scan:
    """Give a scan's air the faint noise of a scanner that does not set it to 0."""
    noise = np.random.default_rng(0).uniform(0.001, 0.01, scan.image.shape).astype(np.float32)
    return replace(scan, image=np.where(scan.image == 0, noise, scan.image))


def test_an_unmoved_scan_is_read_as_it_is_and_mirrored(cohort: Cohort, grid: ViewGrid) -> None:
    scan = cohort.load(cohort.records[0])
    voxels = probe(scan, grid)
    values, seen = read_at(scan, voxels.positions, IDENTITY, grid)
    np.testing.assert_array_equal(values, voxels.values)
    assert seen.all()
    other = replace(scan, image=np.ascontiguousarray(scan.image[:, ::-1]))
    mirrored, _ = read_at(other, voxels.positions, Pose(np.eye(3), np.zeros(3), mirrored=True), grid)
    np.testing.assert_array_equal(mirrored, voxels.values)


def test_noisy_air_makes_a_candidate_like_nobody_in_particular(cohort: Cohort, grid: ViewGrid) -> None:
    query, candidate = _with_air(cohort.load(cohort.records[0])), cohort.load(cohort.records[4])
    voxels = probe(query, grid)
    likeness = [
        dependences(voxels.values, *read_at(one, voxels.positions, IDENTITY, grid), voxels.present)
        for one in (candidate, _with_air(candidate))
    ]
    np.testing.assert_allclose(likeness[0], likeness[1], atol=0.03)
