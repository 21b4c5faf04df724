"""Warps that bend and never tear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonsynth.anatomy.diffeomorphism import (
    LEAST_JACOBIAN,
    grid_points,
    jacobian_determinants,
    random_affine,
    random_warp,
)
from anonsynth.cohort.geometry import Grid

LATTICE = Grid((22, 26, 22), (8.0, 8.0, 8.0)).centred()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), strength=st.floats(0.5, 25.0))
def test_the_jacobian_is_positive_everywhere_however_strong_the_warp(seed: int, strength: float) -> None:
    warp = random_warp(np.random.default_rng(seed), LATTICE, strength=strength)
    determinants = jacobian_determinants(warp.displacement, LATTICE.spacing)
    assert determinants.shape == (8, 21, 25, 21)
    assert determinants.min() == pytest.approx(warp.least_jacobian)
    assert determinants.min() > LEAST_JACOBIAN


def test_a_strong_warp_is_weakened_and_says_so() -> None:
    strong = random_warp(np.random.default_rng(3), LATTICE, strength=60.0)
    gentle = random_warp(np.random.default_rng(3), LATTICE, strength=3.0)
    assert strong.weakened > 0
    assert strong.strength < 60.0
    assert gentle.weakened == 0
    assert gentle.strength == pytest.approx(3.0, rel=0.15)


def test_the_determinant_sees_a_fold_and_knows_a_stretch() -> None:
    points = grid_points(LATTICE)
    stretched = jacobian_determinants(0.5 * points, LATTICE.spacing)
    np.testing.assert_allclose(stretched, 1.5**3, rtol=1e-4)
    mirrored = np.zeros_like(points)
    mirrored[0] = -2 * points[0]
    np.testing.assert_allclose(jacobian_determinants(mirrored, LATTICE.spacing), -1.0, rtol=1e-4)
    torn = np.zeros_like(points)
    torn[1, 10, 12, 9] = 9.0  # one node overtakes its neighbour, 8 mm away
    assert jacobian_determinants(torn, LATTICE.spacing).min() < 0


def test_order_is_kept_along_every_axis_of_a_warped_grid() -> None:
    warp = random_warp(np.random.default_rng(5), LATTICE, strength=6.0)
    fine = Grid((30, 30, 30), (3.0, 3.0, 3.0)).centred()
    moved = warp(grid_points(fine))
    for axis in range(3):
        assert np.diff(moved[axis], axis=axis).min() > 0


@given(seed=st.integers(0, 2**32))
def test_affines_keep_the_handedness_and_stay_near_the_scale(seed: int) -> None:
    affine = random_affine(np.random.default_rng(seed), scale=1.1)
    assert 0.75 < np.cbrt(np.linalg.det(affine.matrix)) / 1.1 < 1.25
    assert np.abs(affine.offset).max() <= 4
