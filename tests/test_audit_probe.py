"""Single voxels: read where a pose says, and compared over the same ground for every candidate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_tiny_cohort

from anonsynth.audits.grain import grain_of
from anonsynth.audits.likeness import dependences
from anonsynth.audits.pose import IDENTITY
from anonsynth.audits.probe import Probe, mirrored_in_place, places_at, probe
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


def _probe(scan: Scan, grid: ViewGrid) -> Probe:
    return probe(scan, grain_of(scan.image), grid)


def test_an_unmoved_scan_is_read_as_it_is_and_mirrored(cohort: Cohort, grid: ViewGrid) -> None:
    scan = cohort.load(cohort.records[0])
    voxels = _probe(scan, grid)
    at = places_at(scan, voxels.positions, IDENTITY, grid)
    np.testing.assert_array_equal(scan.image[:, *at.voxels], voxels.values)
    np.testing.assert_array_equal(grain_of(scan.image)[:, *at.voxels], voxels.grain)
    assert at.seen.all()


@pytest.mark.parametrize("axis", [32, 5])
def test_a_scan_mirrored_on_its_grid_is_read_so_however_far_the_views_reach(cohort: Cohort, axis: int) -> None:
    grid = ViewGrid(cohort.grid.shape, cohort.grid.spacing, (1, 2), axis)
    scan = cohort.load(cohort.records[0])
    other = replace(scan, image=np.ascontiguousarray(scan.image[:, ::-1]))
    voxels = _probe(scan, grid)
    at = places_at(other, voxels.positions, mirrored_in_place(grid), grid)
    np.testing.assert_array_equal(other.image[:, *at.voxels], voxels.values)


def test_noisy_air_makes_a_candidate_like_nobody_in_particular(cohort: Cohort, grid: ViewGrid) -> None:
    query, candidate = _with_air(cohort.load(cohort.records[0])), cohort.load(cohort.records[4])
    voxels = _probe(query, grid)
    likeness = []
    for one in (candidate, _with_air(candidate)):
        at = places_at(one, voxels.positions, IDENTITY, grid)
        likeness.append(dependences(voxels.values, one.image[:, *at.voxels], at.seen, voxels.present))
    np.testing.assert_allclose(likeness[0], likeness[1], atol=0.03)
