"""Borders that stray from their label maps: by as much as asked, nowhere else, and as far as a cohort's really do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anonsynth.anatomy.borders import border_profile, stray


def ball(radius: float) -> np.ndarray:
    """A ball of class 3 in context of classes 1 and 2, and a frame of 0 outside the field of view."""
    x, y, z = np.mgrid[-16:16, -16:16, -16:16]
    classes = np.where(x < 0, 1, 2)
    classes[np.sqrt(x**2 + y**2 + z**2) < radius] = 3
    classes[:2] = 0
    return classes.astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(distance=st.floats(0, 2), seed=st.integers(0, 2**32 - 1))
def test_only_the_border_moves(distance: float, seed: int) -> None:
    classes = ball(9)
    strayed = stray(classes, 3, distance, np.random.default_rng(seed))
    assert np.array_equal(strayed == 0, classes == 0)
    moved = strayed != classes
    depth = np.abs(ndimage.distance_transform_edt(classes == 3) - ndimage.distance_transform_edt(classes != 3))
    assert depth[moved].max(initial=0) <= 0.5 + 6 * distance
    assert set(np.unique(strayed)) <= {0, 1, 2, 3}


def test_the_border_moves_by_as_much_as_asked() -> None:
    classes = ball(9)
    assert stray(classes, 3, 0, np.random.default_rng(0)) is classes
    shares = [
        np.mean([(stray(classes, 3, d, np.random.default_rng(s)) != classes).mean() for s in range(5)])
        for d in (0.5, 1, 2)
    ]
    assert shares[0] < shares[1] < shares[2]
    # To either side alike: the volume stays, but for what a ball's outer shell is larger than its inner.
    volumes = [(stray(classes, 3, 1, np.random.default_rng(s)) == 3).sum() for s in range(20)]
    assert np.mean(volumes) == pytest.approx((classes == 3).sum(), rel=0.08)


def test_the_profile_tells_how_far_borders_strayed() -> None:
    classes = ball(9)
    colours = np.array([0, 0.2, 0.9, 0.5], np.float32)
    profiles = []
    for distance in (0, 0.5, 1, 2):
        counts = sum(
            border_profile(colours[stray(classes, 3, distance, np.random.default_rng(s))], classes, 3) for s in range(5)
        )
        profiles.append(counts[0] / counts[1])
    assert profiles[0].max() == 0
    assert all(np.all(far >= near) for near, far in pairwise(profiles))
    assert profiles[2][0] > profiles[2][-1]


def test_nothing_labelled_has_no_border() -> None:
    classes = np.ones((8, 8, 8), np.uint8)
    assert border_profile(np.ones((8, 8, 8), np.float32), classes, 2).sum() == 0
    assert stray(classes, 2, 1, np.random.default_rng(0)) is classes
