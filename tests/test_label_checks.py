"""What benchmarks of label priors and tumour borders look for is found when it is there, and not when it is not."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT
from scipy import ndimage

from anonsynth.anatomy.atlas import AtlasPrior
from anonsynth.anatomy.diffeomorphism import grid_points
from anonsynth.cohort.geometry import Grid
from anonsynth.seeds import stream

GRID = Grid((24, 28, 20), (2.0, 2.0, 2.5)).centred()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("label_checks")


@pytest.fixture
def borders(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("tumour_borders")


def box(shape: tuple[int, int, int] = GRID.shape) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[6:18, 6:22, 5:15] = 1
    label[9:15, 9:15, 8:12] = 2
    return label


def test_what_is_empty_torn_small_or_hollow_is_seen(checks: ModuleType) -> None:
    parts = (checks.Part("outer", (1,), 5, 50, 0.98), checks.Part("inner", (2,), 0.5, 5, 0.98))

    def wrong(label: np.ndarray) -> list[str]:
        found: list[str] = checks.wrong_with(checks.look_at(label, 0.01, parts), parts)
        return found

    assert wrong(box()) == []
    torn = box()
    torn[:, 11:13] = 0
    assert wrong(torn) == ["outer: torn", "inner: torn"]
    assert wrong(np.where(box() == 2, 1, box())) == ["inner: empty"]
    assert wrong(np.where(box() == 1, 2, box())) == ["outer: empty", "inner: large"]
    assert checks.hole_share(box() > 0) == 0
    assert checks.hole_share(box() == 1) == pytest.approx((box() == 2).sum() / (box() == 1).sum())


def test_a_fold_between_two_voxels_is_seen(checks: ModuleType) -> None:
    places = grid_points(GRID)
    assert checks.least_jacobian(places, GRID.spacing) == pytest.approx(1)
    matrix = np.array([[1.1, 0.2, 0], [0, 0.9, 0.1], [0.1, 0, 1.0]], np.float32)
    turned = np.tensordot(matrix, places, axes=1)
    assert checks.least_jacobian(turned, GRID.spacing) == pytest.approx(np.linalg.det(matrix), rel=1e-3)
    folded = places.copy()
    folded[0, 10, 10, 10] += 2.5
    assert checks.least_jacobian(folded, GRID.spacing) < 0


def test_a_public_map_that_was_moved_by_an_affine_is_recognised(checks: ModuleType) -> None:
    label, points = box(), grid_points(GRID)
    matrix = np.array([[1.0, 0.1, 0], [-0.1, 1.0, 0], [0, 0.05, 0.95]])
    places = (np.tensordot(matrix, points, axes=1) + np.array([3.0, -2.0, 1.0])[:, None, None, None]).astype(np.float32)
    voxels = (places - np.array(GRID.origin)[:, None, None, None]) / np.array(GRID.spacing)[:, None, None, None]
    copy = ndimage.map_coordinates(label, voxels, order=0)
    affine, left = checks.affine_of(places, GRID, copy > 0)
    assert left < 1e-3
    assert np.allclose(affine, np.column_stack([matrix, [3.0, -2.0, 1.0]]), atol=1e-3)
    public = (checks.PublicMap(label, GRID),)
    assert checks.closest(copy, GRID, public, [affine], (1, 2)) < 0.02
    identity = np.column_stack([np.eye(3), np.zeros(3)])
    assert checks.closest(copy, GRID, public, [identity], (1, 2)) > 0.1
    shifted = np.roll(label, (3, -2, 1), (0, 1, 2))
    by_moments = checks.affine_by_moments(shifted > 0, GRID, label > 0, GRID)
    assert checks.closest(shifted, GRID, public, [by_moments], (1, 2)) == 0


def test_a_prior_tells_where_its_voxels_came_from_and_draws_the_same() -> None:
    grid = Grid((32, 40, 32), (5.0, 5.0, 5.0)).centred()
    prior = AtlasPrior(grid)
    placed = prior.draw_placed(stream(0, "placed"))
    assert np.array_equal(placed.drawn.label, prior.draw(stream(0, "placed")).label)
    assert placed.places.shape == (3, *placed.fine.shape)
    brain = placed.places[:, ::3, ::3, ::3][:, placed.drawn.label > 0]
    assert np.abs(brain).max() < 130, "the brain's voxels lie in the template's brain"


def test_the_step_at_a_border_is_measured_and_blur_lessens_it(borders: ModuleType) -> None:
    spacing = (2.0, 2.0, 2.0)
    tumour = np.linalg.norm(np.indices((32, 32, 32)) - 15.5, axis=0) < 8
    image = np.where(tumour, 0.8, 0.4).astype(np.float32)
    image += np.random.default_rng(0).normal(0, 0.01, image.shape).astype(np.float32)
    steps = borders.border_steps(image, tumour, spacing)
    assert steps.size > 500
    assert np.median(steps) == pytest.approx(0.4 / image.std(), rel=0.02)
    soft = ndimage.gaussian_filter(image, 2.5)
    assert np.median(borders.border_steps(soft, tumour, spacing)) * soft.std() < 0.75 * 0.4
    dark = borders.border_steps((1.2 - image).astype(np.float32), tumour, spacing)
    assert np.median(dark) == pytest.approx(-np.median(steps), rel=0.02)


def test_distances_between_groups_are_zero_for_the_same_and_the_shift_for_a_shift(borders: ModuleType) -> None:
    rng = np.random.default_rng(0)
    group = np.sort(rng.normal(1, 0.5, (20, 40)), axis=1)
    assert borders.distance(group, group) == 0
    assert borders.distance(group, group + 0.7) == pytest.approx(0.7)
    cells = borders.compared(group, group + 0.1, group + 1.0, rng)
    assert cells[0].startswith("0.100 [")
    assert cells[2].startswith("0.100 [")


def test_a_pasted_tumour_is_the_donors_over_the_host(borders: ModuleType) -> None:
    scans = []
    for number in range(4):
        tumour = np.zeros((20, 20, 20), bool)
        tumour[4:9, 8 : 12 + number, 8:12] = True
        image = np.where(tumour, 0.9, 0.1 * (number + 1)).astype(np.float32)
        scans.append(([image, None], tumour))
    made = list(borders.pasted_scans(scans, np.random.default_rng(0)))
    assert len(made) >= 3
    for images, label in made:
        assert images[1] is None
        assert np.allclose(images[0][label], 0.9)
        assert label.sum() >= borders.LEAST_VOXELS
