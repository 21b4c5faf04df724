"""The grain of single voxels: nobody shares it, and a blend keeps it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from anonsynth.audits.grain import BOXES, cells_of, grain_of, grain_places, kinships

SHAPE = (24, 20, 16)


def _image(seed: int, modalities: int = 1) -> np.ndarray:
    """A smooth shape that everybody shares, and a grain of its own."""
    rng = np.random.default_rng(seed)
    shared = ndimage.gaussian_filter(np.random.default_rng(99).normal(size=SHAPE), 4)
    own = ndimage.gaussian_filter(rng.normal(size=(modalities, *SHAPE)), (0, 1, 1, 1))
    return (1 + shared / shared.std() + 0.5 * own / own.std()).clip(0.01).astype(np.float32)


def _alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    places = np.stack([axis.ravel() for axis in np.indices(SHAPE)]).astype(np.float32)
    flat = [grain_of(image).reshape(len(image), -1) for image in (first, second)]
    everywhere = np.ones(places.shape[1], bool)
    return kinships(*flat, cells_of(places), everywhere, np.ones(len(first), bool))


def test_a_blend_has_the_grain_of_its_original_and_a_stranger_has_not() -> None:
    original, stranger = _image(0), _image(1)
    smooth = ndimage.gaussian_filter(_image(2), (0, 3, 3, 3))
    assert _alike(0.6 * original + 0.4 * smooth, original)[0, 0] > 0.9
    assert _alike(0.6 * original + 0.4 * stranger, original)[0, 0] > 0.5
    assert _alike(stranger, original)[0, 0] < 0.2


def test_inverted_rescaled_and_curved_intensities_keep_it() -> None:
    original = _image(0)
    for copy in (original.max() - original, 7 * original, original**1.4):
        assert _alike(copy.astype(np.float32), original)[0, 0] > 0.9


def test_a_copied_part_shows_in_its_box_alone() -> None:
    original, stranger = _image(0), _image(1)
    part = stranger.copy()
    part[:, :12, :10, :8] = original[:, :12, :10, :8]
    alike = _alike(part, original)[1:, 0].reshape(3, 3, 3)
    assert alike[0, 0, 0] == alike.max() > 0.8
    assert alike[2, 2, 2] < 0.3


def test_crops_whose_rims_fall_on_each_other_are_no_kin() -> None:
    crops = []
    for seed in (0, 1):
        crop = np.zeros((1, *SHAPE), np.float32)
        crop[:, 3:-3, 3:-3, 2:-2] = _image(seed)[:, 3:-3, 3:-3, 2:-2]
        crop[:, 2, 3:-3, 2:-2] = 0.5 * crop[:, 3, 3:-3, 2:-2]  # half scan, half nothing
        crops.append(crop)
    assert _alike(*crops).max() < 0.3


def test_modalities_that_are_missing_and_places_that_are_not_seen_do_not_count() -> None:
    first, second = _image(0, 2), _image(1, 2)
    second[0] = first[0]
    places = np.stack([axis.ravel() for axis in np.indices(SHAPE)]).astype(np.float32)
    flat = [grain_of(image).reshape(2, -1) for image in (first, second)]
    shared = np.array([False, True])
    found = kinships(*flat, cells_of(places), np.ones(places.shape[1], bool), shared)
    assert (found[:, 0] == -1).all()
    assert found[0, 1] < 0.2
    half = places[0] >= SHAPE[0] // 2
    boxes = kinships(*flat, cells_of(places), half, np.array([True, True]))[1:, 0].reshape(3, 3, 3)
    assert (boxes[0] == -1).all()
    assert (boxes[2] == 1).all()
    nothing = kinships(*flat, cells_of(places), np.zeros(places.shape[1], bool), np.array([True, True]))
    assert nothing.shape == (1 + BOXES, 2)
    assert (nothing == -1).all()


def test_what_is_flat_has_no_grain_and_is_like_nobody() -> None:
    flat = np.zeros((2, *SHAPE), np.float32)
    flat[1] = 0.5
    grain = grain_of(flat)
    assert grain.dtype == np.int8
    assert not grain[0].any()
    assert (_alike(flat, _image(0, 2))[0] < 0.1).all()


@given(st.tuples(*[st.integers(1, 40)] * 3))
def test_places_lie_on_the_grid_and_stay_the_same(shape: tuple[int, int, int]) -> None:
    places = grain_places(shape)
    assert len(places) == min(8192, np.prod(shape))
    assert len(np.unique(places)) == len(places)
    assert 0 <= places.min() <= places.max() < np.prod(shape)
    assert grain_of(np.ones((1, *shape), np.float32)).shape == (1, *shape)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_cells_divide_the_box_around_the_places(count: int) -> None:
    positions = np.random.default_rng(0).normal(size=(3, count)).astype(np.float32)
    cells = cells_of(positions)
    assert cells.shape == (count,)
    assert ((cells >= 0) & (cells < 64)).all()
