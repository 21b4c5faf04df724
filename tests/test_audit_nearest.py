from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_tiny_cohort
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anonsynth.audits.alignment import Placement, best_placement, place, spectrum
from anonsynth.audits.closer import Aspect
from anonsynth.audits.grain import grain_of
from anonsynth.audits.index import Index, build_index
from anonsynth.audits.nearest import Query, _closest, cohort_queries, compare
from anonsynth.audits.pairs import IDENTICAL_DISTANCE, image_distance, label_dice, pair_images, pair_labels
from anonsynth.audits.probe import probe
from anonsynth.audits.ranking import propose, rank
from anonsynth.audits.scoring import flagged_alone, make_null, one_scan_per_patient, score
from anonsynth.audits.views import View, ViewGrid, ViewVolume, body, make_views
from anonsynth.cohort.model import Split
from anonsynth.cohort.store import Cohort, Scan
from anonsynth.progress import Progress

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_tiny_cohort(tmp_path_factory.mktemp("nearest") / "cohort", patients=30, holdout=10)


@pytest.fixture(scope="module")
def index(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build_index(cohort, cohort.of(Split.TRAIN), _grid(cohort), tmp_path_factory.mktemp("index"), QUIET)


def _grid(cohort: Cohort) -> ViewGrid:
    return ViewGrid(cohort.grid.shape, cohort.grid.spacing, (1, 2))


@given(
    shift=st.tuples(st.integers(-3, 3), st.integers(-4, 4), st.integers(-3, 3)),
    mirrored=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=25, deadline=None)
def test_alignment_finds_a_shift_and_a_mirror(shift: tuple[int, int, int], mirrored: bool, seed: int) -> None:
    volume = np.zeros((2, 20, 26, 18), np.float32)
    volume[:, 4:16, 6:20, 4:14] = np.random.default_rng(seed).normal(size=(2, 12, 14, 10))
    volume /= np.sqrt((volume**2).sum((1, 2, 3), keepdims=True))
    moved = place(volume, Placement(1.0, shift, mirrored=mirrored))
    both = np.array([True, True])
    found = best_placement(spectrum(ViewVolume(moved, both)), spectrum(ViewVolume(volume, both)))
    assert found.similarity == pytest.approx(1.0, abs=1e-5)
    assert found.mirrored == mirrored
    np.testing.assert_array_equal(place(moved, found), volume)


def test_scans_without_a_common_modality_are_not_alike() -> None:
    volume = np.ones((2, 8, 8, 8), np.float32)
    first = spectrum(ViewVolume(volume, np.array([True, False])))
    second = spectrum(ViewVolume(volume, np.array([False, True])))
    assert best_placement(first, second).similarity == -1


def test_views_ignore_scale_and_offset_and_keep_norm_one(cohort: Cohort) -> None:
    scan = cohort.load(cohort.records[0])
    other = replace(scan, image=np.where(scan.image != 0, 0.5 * scan.image, 0).astype(np.float32))
    first, second = (make_views(one, _grid(cohort)) for one in (scan, other))
    for view in View:
        np.testing.assert_allclose(first[view].volume, second[view].volume, atol=2e-3)
        if view is not View.GROUND:
            assert np.sum(first[view].volume ** 2) == pytest.approx(first[view].present.sum(), rel=1e-4)
    body, seen = first[View.GROUND].volume
    assert body.max() <= 1
    assert (seen[body > 0] > 0).all(), "a body lies in its field of view"


def test_a_rim_is_no_edge(cohort: Cohort) -> None:
    """Where a scan was moved, voxels of its rim are half scan, half nothing."""
    grid = _grid(cohort)
    assert grid.fine == (1, 1, 1)
    scan = next(one for one in map(cohort.load, cohort.records) if one.present.all())
    inside = body(scan.image)
    rim = inside & ~ndimage.binary_erosion(inside)
    faded = replace(scan, image=np.where(rim, 0.5 * scan.image, scan.image))
    before, after = make_views(scan, grid), make_views(faded, grid)
    assert not np.array_equal(before[View.INTENSITY].volume, after[View.INTENSITY].volume)
    for view in (View.EDGES, View.GROUND):
        np.testing.assert_array_equal(before[view].volume, after[view].volume)


def test_two_scans_of_each_patient_are_proposed(cohort: Cohort, tmp_path: Path) -> None:
    train = cohort.of(Split.TRAIN)
    again = [record.model_copy(update={"patient": "P-again"}) for record in train[1:4]]
    index = build_index(cohort, (*train, *again), _grid(cohort), tmp_path, QUIET)
    scan = cohort.load(train[1])
    (ranking,) = rank([make_views(scan, index.grid.views)], [grain_of(scan.image)], index)
    proposed = [index.records[one.position] for one in propose(ranking, index, View.EDGES, 3)]
    assert len({record.patient for record in proposed}) == 3
    own = [record.scan for record in proposed if record.patient == "P-again"]
    assert len(own) == len(set(own)) == 2
    assert own[0] == train[1].scan, "the most alike comes first"


def test_a_patient_known_by_the_grain_is_kept_however_else_proposed(cohort: Cohort, index: Index) -> None:
    scan = cohort.load(cohort.of(Split.TRAIN)[0])
    views, grain = make_views(scan, index.grid.views), grain_of(scan.image)
    (ranking,) = rank([views], [grain], index)
    (start, *_) = propose(ranking, index, View.EDGES, 1)
    in_place = [replace(one, kept=True) for one in propose(ranking, index, View.INTENSITY, len(index.records))]
    found = _closest(views, probe(scan, grain, index.grid.views), [start, *in_place], index, "image", 1)
    assert len(found[Aspect.GRAIN]) == len({one.patient for one in cohort.of(Split.TRAIN)})


def test_distances_of_near_copies_are_right_to_the_last_digits() -> None:
    rng = np.random.default_rng(0)
    scan = rng.normal(100, 10, (1, 24, 24, 24))
    near = scan + rng.normal(0, 1e-3, scan.shape)
    mask = np.ones(scan.shape[1:], bool)
    distance = image_distance(near, scan, mask)  # type: ignore[arg-type]
    assert distance == pytest.approx(0.5 * (1e-3 / 10) ** 2, rel=0.05)
    assert image_distance(scan, scan, mask) == 0  # type: ignore[arg-type]
    assert label_dice(np.array([[[1, 2, 0]]], np.uint8), np.array([[[1, 1, 0]]], np.uint8)) == 0.5


def test_a_copy_is_identical_and_another_patient_is_not(cohort: Cohort) -> None:
    first, second = (cohort.load(record) for record in cohort.records[2:4])
    copy = replace(first, image=np.ascontiguousarray(first.image[:, ::-1]), label=first.label[::-1].copy())
    assert pair_images(copy, first).identical
    assert pair_images(copy, first).placement.mirrored
    assert pair_labels(copy, first).identical
    assert not pair_images(second, first).identical
    assert not pair_labels(second, first).identical
    assert 1 - pair_images(second, first).similarity > IDENTICAL_DISTANCE


def test_a_patients_scans_are_one_neighbour(cohort: Cohort, tmp_path: Path) -> None:
    train = cohort.of(Split.TRAIN)
    index = build_index(cohort, (*train, train[0], train[0], train[5]), _grid(cohort), tmp_path, QUIET)
    (matches,) = compare(cohort_queries(cohort, [train[5]]), index, QUIET, "test")
    for found in matches.found.values():
        patients = [match.patient for match in found]
        assert len(patients) == len(set(patients))
    for row in matches.regions.patient:
        known = row[row >= 0]
        assert len(known) == len(set(known.tolist()))


def test_copies_stand_out_and_the_average_does_not(cohort: Cohort, index: Index) -> None:
    train = cohort_queries(cohort, cohort.of(Split.TRAIN))
    holdout = one_scan_per_patient(cohort_queries(cohort, cohort.of(Split.HOLDOUT)), 0, "holdout")
    own = compare(train, index, QUIET, "copies")
    null = make_null(compare(holdout, index, QUIET, "null"), own)
    assert flagged_alone(score(own, null, null.usual).combined, np.ones(50), 0.05).all()
    left_out = score(own, null, null.usual, without_own=True)
    assert np.mean(flagged_alone(left_out.combined, np.ones(50), 0.05)) <= 0.1
    average = score(compare([_average(cohort)], index, QUIET, "average"), null, null.usual)
    assert average.combined[0] > 0.05


def _average(cohort: Cohort) -> Query:
    """What a generator without ideas makes: near to everybody, a copy of nobody."""
    scans = [cohort.load(record) for record in cohort.of(Split.TRAIN) if len(record.modalities) == 2]
    image = np.mean([scan.image for scan in scans], axis=0)
    label = (np.mean([scan.label > 0 for scan in scans], axis=0) > 0.5).astype(np.uint8)
    smooth = np.stack([ndimage.gaussian_filter(channel, 1) for channel in image]).astype(np.float32)
    scan = Scan(scans[0].record, smooth, scans[0].present, label)
    return Query("average", "average", lambda: scan)


def test_a_holdout_scan_that_is_also_in_training_is_no_null(cohort: Cohort, index: Index) -> None:
    train = cohort.of(Split.TRAIN)
    own = compare(cohort_queries(cohort, train), index, QUIET, "training")
    queries = cohort_queries(cohort, [train[0], *cohort.of(Split.HOLDOUT)])
    null = make_null(compare(queries, index, QUIET, "null"), own)
    assert null.shared == 1
    assert null.size(Aspect.INTENSITY) == len(cohort.of(Split.HOLDOUT))


def test_memory_does_not_hold_the_training_scans(index: Index) -> None:
    """What is ranked by lies on disk; rows come in blocks of bounded size."""
    sizes = index.grid.sizes
    assert (index.folder / "rows.f32").stat().st_size == 4 * len(index.records) * sum(sizes)
    assert sum(len(block.edges) for block in index.blocks()) == len(index.records)
